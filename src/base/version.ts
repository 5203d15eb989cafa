// The version of this build, read from the package that it is part of.
import { readFileSync } from "node:fs";

const packageFile = new URL("../../package.json", import.meta.url);

export const version: string = (JSON.parse(readFileSync(packageFile, "utf8")) as { version: string }).version;

/** Parquet's created_by. parquet-java drops a file's statistics when this form does not parse. */
export const createdBy = `pg-flo version ${version} (build ${version})`;
