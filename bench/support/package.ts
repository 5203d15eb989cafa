// What users install, not the sources: compiled from a copy of this checkout into a folder of its own.
import { execFile } from "node:child_process";
import { cp, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const built = ["bin", "src", "scripts", "package.json", "tsconfig.json"];

export interface BuiltPackage extends AsyncDisposable {
  /** bin/pg-flo.js of it. */
  readonly binary: string;
}

/** Builds the package; `await using` removes it again. */
export async function buildPackage(): Promise<BuiltPackage> {
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-built-"));
  for (const name of built) await cp(join(root, name), join(folder, name), { recursive: true });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  await promisify(execFile)(process.execPath, [join(folder, "scripts", "build.ts")]);
  await rm(join(folder, "src"), { recursive: true }); // else the command would run the sources
  return { binary: join(folder, "bin", "pg-flo.js"), [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
}
