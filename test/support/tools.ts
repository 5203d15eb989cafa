// psql, pgbench and pg_recvlogical: found where systems put them, else taken from Debian's or Ubuntu's packages.
// The packages are unpacked into a folder of this user's, never installed: no rights are needed, no server appears.
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, lstat, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";

const run = promisify(execFile);

const programs = ["psql", "pgbench", "pg_recvlogical"] as const;
const packages = ["postgresql-client", "postgresql"];

export interface PostgresTools {
  readonly psql: string;
  readonly pgbench: string;
  readonly pg_recvlogical: string;
  /** The environment that the programs need. Add `connectionEnvironment`. */
  readonly env: NodeJS.ProcessEnv;
}

/** Paths of the programs. Throws when they are missing and cannot be had, and says what to install. */
export async function findTools(): Promise<PostgresTools> {
  const installed = await findInstalled();
  if (installed) return toolsIn(installed, {});
  const root = await unpackOnce();
  const folder = await newestBin(join(root, "usr/lib/postgresql"));
  if (!folder) throw new Error(`no psql, pgbench and pg_recvlogical in the packages unpacked at ${root}`);
  const triplets = await readdir(join(root, "usr/lib"));
  const libraries = triplets.filter((name) => name.includes("-linux-")).map((name) => join(root, "usr/lib", name));
  return toolsIn(folder, { LD_LIBRARY_PATH: libraries.join(":") });
}

/** libpq's variables for a server, so that no password is on a command line. */
export function connectionEnvironment(config: ConnectionConfig): Record<string, string> {
  return {
    PGHOST: config.host,
    PGPORT: String(config.port),
    PGDATABASE: config.database,
    PGUSER: config.user,
    PGPASSWORD: config.password ?? "",
    PGSSLMODE: config.sslMode,
  };
}

function toolsIn(folder: string, env: Record<string, string>): PostgresTools {
  const [psql, pgbench, recvlogical] = programs.map((name) => join(folder, name)) as [string, string, string];
  return { psql, pgbench, pg_recvlogical: recvlogical, env: { ...process.env, ...env } };
}

/** One folder that has them all: Debian's own (its /usr/bin is a wrapper in Perl), Homebrew's, or one of PATH. */
async function findInstalled(): Promise<string | null> {
  const debian = await newestBin("/usr/lib/postgresql");
  if (debian) return debian;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) if (await hasAll(folder)) return folder;
  return null;
}

async function newestBin(parent: string): Promise<string | null> {
  const versions = (await readdir(parent).catch(() => [])).sort((a, b) => Number(b) - Number(a));
  for (const version of versions) if (await hasAll(join(parent, version, "bin"))) return join(parent, version, "bin");
  return null;
}

async function hasAll(folder: string): Promise<boolean> {
  const found = await Promise.allSettled(programs.map((name) => access(join(folder, name), constants.X_OK)));
  return found.every((result) => result.status === "fulfilled");
}

/** Unpacks into a folder of its own name first: parallel test processes see all of it or nothing. */
async function unpackOnce(): Promise<string> {
  const uid = process.getuid?.() ?? 0;
  const target = join(tmpdir(), `pg-flo-tools-${uid}`);
  const present = await lstat(target).catch(() => null);
  if (present?.isDirectory() && present.uid === uid) return target;
  const own = await mkdtemp(`${target}.`);
  try {
    await unpackPackages(own);
    await rename(own, target);
  } catch (cause) {
    await rm(own, { recursive: true, force: true });
    const winner = await lstat(target).catch(() => null);
    if (winner?.isDirectory() && winner.uid === uid) return target;
    throw new Error(
      "psql, pgbench and pg_recvlogical are missing and could not be fetched with apt-get; " +
        "install them, on Debian and Ubuntu: apt-get install postgresql postgresql-client",
      { cause },
    );
  }
  return target;
}

/** What apt-get would install here, libraries included, with package lists of our own so that no right is needed. */
async function unpackPackages(target: string): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "pg-flo-apt-"));
  const options = [`Dir::State::Lists=${scratch}/lists`, `Dir::Cache=${scratch}/cache`, "APT::Sandbox::User="];
  const apt = (...args: string[]) =>
    run("apt-get", [...options.flatMap((option) => ["-o", option]), ...args], { cwd: scratch, maxBuffer: 1 << 26 });
  try {
    await run("mkdir", ["-p", `${scratch}/lists/partial`, `${scratch}/cache/archives/partial`]);
    await apt("update");
    const plan = await apt("--simulate", "--no-install-recommends", "install", ...packages);
    const names = [...plan.stdout.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] ?? "");
    await apt("download", ...names);
    for (const file of await readdir(scratch)) {
      if (file.endsWith(".deb")) await run("dpkg-deb", ["-x", join(scratch, file), target]);
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
