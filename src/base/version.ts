// The version of this build, read from the package that it is part of.
import packageFile from "../../package.json" with { type: "json" };

export const { version } = packageFile;

/** Parquet's created_by. parquet-java drops a file's statistics when this form does not parse. */
export const createdBy = `pg-flo version ${version} (build ${version})`;
