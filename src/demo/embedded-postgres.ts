// Runs a PostgreSQL server in a temporary folder of its own: for the demo and for tests.
// Owns the server's processes and its folder. Both go when this process goes, however it ends.
import { execFile } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { appendFile, chmod, chown, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { type GuardedProcess, startGuarded } from "./guarded-process.ts";
import type { PostgresBinaries } from "./postgres-binaries.ts";

const run = promisify(execFile);

const superuser = "postgres";
const startTimeoutMs = 60_000;
/** A fast shutdown waits for clients that read the log; one that does not read would hold it for ever. */
const fastStopTimeoutMs = 20_000;
const portAttempts = 30;
/** Below the ports that systems give to outgoing connections, so that a stopped server finds its port free again. */
const [firstPort, lastPort] = [15_000, 32_000];

/** Settings of postgresql.conf. Changed later by `restart({ settings })` or ALTER SYSTEM. */
export type PostgresSettings = Readonly<Record<string, string | number | boolean>>;

export interface EmbeddedOptions {
  readonly binaries: PostgresBinaries;
  readonly settings?: PostgresSettings;
  /** A cluster to copy, which is faster than to make one: made by these binaries, and stopped. */
  readonly template?: ClusterTemplate;
}

export interface ClusterTemplate {
  readonly dataFolder: string;
  readonly password: string;
}

/** fast: clients are told, a checkpoint is written. immediate: as a crash. */
export type StopMode = "fast" | "immediate";

const baseSettings: PostgresSettings = {
  listen_addresses: "127.0.0.1",
  wal_level: "logical",
  max_wal_senders: 20,
  max_replication_slots: 20,
  timezone: "UTC",
  log_timezone: "UTC",
};

/**
 * Makes a cluster (UTF8, locale C, password by SCRAM everywhere) and starts its server on a free port of 127.0.0.1.
 * Throws EMBEDDED_POSTGRES_FAILED with the server's last lines.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const { binaries, template } = options;
  const folder = await makeFolder(binaries);
  try {
    const dataFolder = join(folder, "data");
    const password = template?.password ?? randomBytes(12).toString("hex");
    if (template) await run("cp", ["-a", template.dataFolder, dataFolder]);
    else await initializeCluster({ binaries, folder, dataFolder, password });
    const settings = { ...baseSettings, unix_socket_directories: folder, ...options.settings };
    await appendSettings(dataFolder, settings);
    const server = new EmbeddedPostgres(binaries, folder, password);
    await server.start();
    return server;
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Runs initdb. `folder` takes the password for a moment and the log; both must be the server user's to write. */
async function initializeCluster(options: {
  readonly binaries: PostgresBinaries;
  readonly folder: string;
  readonly dataFolder: string;
  readonly password: string;
}): Promise<void> {
  const { binaries, folder, dataFolder, password } = options;
  const passwordFile = join(folder, "password");
  const logFile = join(folder, "initdb.log");
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (binaries.user) await chown(passwordFile, binaries.user.uid, binaries.user.gid);
  const flags = ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync", `--username=${superuser}`];
  const initdb = await startGuarded(
    [join(binaries.root, "bin", "initdb"), ...flags, `--pwfile=${passwordFile}`, "-D", dataFolder],
    { folder, logFile, user: binaries.user, env: serverEnvironment },
  );
  const code = await initdb.ended;
  await rm(passwordFile, { force: true });
  if (code !== 0) throw await serverError(`initdb ended with code ${code}`, logFile);
}

/** A folder that only the server's user may enter. */
async function makeFolder(binaries: PostgresBinaries): Promise<string> {
  const folder = await mkdtemp(join(binaries.tempRoot, "pg-flo-"));
  await chmod(folder, 0o700);
  if (binaries.user) await chown(folder, binaries.user.uid, binaries.user.gid);
  return folder;
}

/** One running (or stopped) server. Leave it by `stop`, `await using` or the end of this process. */
export class EmbeddedPostgres implements AsyncDisposable {
  readonly host = "127.0.0.1";
  readonly user = superuser;
  readonly password: string;
  /** Folder of the server's unix socket, its data and its log. */
  readonly folder: string;
  readonly #binaries: PostgresBinaries;
  #port = 0;
  #process: GuardedProcess | null = null;

  constructor(binaries: PostgresBinaries, folder: string, password: string) {
    this.#binaries = binaries;
    this.folder = folder;
    this.password = password;
  }

  get port(): number {
    return this.#port;
  }

  get dataFolder(): string {
    return join(this.folder, "data");
  }

  /** How to reach `database` as the superuser, or as `login`. */
  config(database = "postgres", login?: { readonly user: string; readonly password: string }): ConnectionConfig {
    const { user, password } = login ?? this;
    return { host: this.host, port: this.port, database, user, password, sslMode: "disable", connectTimeoutMs: 10_000 };
  }

  /** Starts the server after `stop` or `kill`: on its old port, which clients know. The first time on a free one. */
  async start(): Promise<void> {
    const known = this.#port !== 0;
    for (let attempt = 1; ; attempt++) {
      if (!known) this.#port = randomInt(firstPort, lastPort);
      const logStart = (await this.log()).length;
      if (await this.#tryStart()) return;
      // Binding is the only test of a free port without a race: try, and take another.
      const lines = (await this.log()).slice(logStart);
      const again = /could not bind|pre-existing shared memory block/.test(lines);
      if (!again || attempt === portAttempts) throw await serverError("the server did not start", this.#logFile);
      if (known) await sleep(200);
    }
  }

  /** Ends the server and keeps its data for `start`. A fast stop that takes too long becomes an immediate one. */
  async halt(mode: StopMode = "fast"): Promise<void> {
    const process_ = this.#process;
    if (process_ === null || process_.exitCode !== null) return;
    const pid = await this.#postmasterPid();
    if (mode === "fast") {
      signal(pid, "SIGINT");
      const timer = new AbortController();
      await Promise.race([
        process_.ended,
        sleep(fastStopTimeoutMs, undefined, { signal: timer.signal }).catch(() => {}),
      ]);
      timer.abort();
    }
    if (process_.exitCode === null) signal(pid, "SIGQUIT");
    await process_.ended;
  }

  /** Ends the server and removes its folder. */
  async stop({ mode = "fast" }: { readonly mode?: StopMode } = {}): Promise<void> {
    await this.halt(mode);
    await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** SIGKILL to the server and all its processes, as if the machine went down. `start` runs the recovery. */
  async kill(): Promise<void> {
    const process_ = this.#process;
    if (process_ === null || process_.exitCode !== null) return;
    const pid = await this.#postmasterPid();
    const children = await childPids(pid);
    signal(pid, "SIGKILL");
    for (const child of children) signal(child, "SIGKILL");
    await process_.ended;
  }

  /** Ends and starts again on the same port, with changed settings if given. */
  async restart(options: { readonly mode?: StopMode; readonly settings?: PostgresSettings } = {}): Promise<void> {
    await this.halt(options.mode);
    if (options.settings) await appendSettings(this.dataFolder, options.settings);
    await this.start();
  }

  /** What the server wrote to its log so far. */
  async log(): Promise<string> {
    return readFile(this.#logFile, "utf8").catch(() => "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop({ mode: "immediate" });
  }

  get #logFile(): string {
    return join(this.folder, "server.log");
  }

  /** False when the server ended before it was ready. */
  async #tryStart(): Promise<boolean> {
    const pidFile = join(this.dataFolder, "postmaster.pid");
    await rm(pidFile, { force: true }); // ours alone, and no server of ours runs: what is left is of a killed one
    const command = [join(this.#binaries.root, "bin", "postgres"), "-D", this.dataFolder, "-p", String(this.#port)];
    const { folder } = this;
    const started = await startGuarded(command, {
      folder,
      logFile: this.#logFile,
      user: this.#binaries.user,
      env: serverEnvironment,
    });
    this.#process = started;
    for (const deadline = Date.now() + startTimeoutMs; Date.now() < deadline; await sleep(10)) {
      if (started.exitCode !== null) return false;
      // Line 8 is the server's state, as pg_ctl reads it: src/include/utils/pidfile.h
      const lines = (await readFile(pidFile, "utf8").catch(() => "")).split("\n");
      if (lines[7]?.trim() === "ready") return true;
    }
    await this.halt("immediate");
    throw await serverError(`the server was not ready after ${startTimeoutMs / 1000} s`, this.#logFile);
  }

  async #postmasterPid(): Promise<number> {
    const pid = Number.parseInt(await readFile(join(this.dataFolder, "postmaster.pid"), "utf8"), 10);
    if (!(pid > 1)) throw new PgFloError("INTERNAL", "embedded PostgreSQL, postmaster.pid holds no process id");
    return pid;
  }
}

/** Nothing of our environment reaches the server: PG* variables, locale and time zone would change it. */
const serverEnvironment = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };

/** Later lines win over earlier ones. */
async function appendSettings(dataFolder: string, settings: PostgresSettings): Promise<void> {
  const quote = (value: unknown) => `'${String(value).replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quote(value)}\n`);
  await appendFile(join(dataFolder, "postgresql.conf"), `\n${lines.join("")}`);
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // it ended by itself
  }
}

/** Each child of the server is a process group of its own, so there is no group to kill. */
async function childPids(pid: number): Promise<number[]> {
  const list =
    process.platform === "linux"
      ? await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")
      : (await run("pgrep", ["-P", String(pid)])).stdout;
  return list.split(/\s+/).filter(Boolean).map(Number);
}

async function serverError(what: string, logFile: string): Promise<PgFloError> {
  const log = await readFile(logFile, "utf8").catch(() => "");
  const lines = log.trim().split("\n").slice(-5).join(" | ");
  return new PgFloError("EMBEDDED_POSTGRES_FAILED", `embedded PostgreSQL, ${what}, ${lines || "no log"}`);
}
