// Real PostgreSQL servers for tests, versions 14 to 18, each in a temporary folder of its own.
// A server that a test forgets ends with the test's process.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import {
  type ClusterTemplate,
  type EmbeddedPostgres,
  type PostgresSettings,
  startEmbedded,
} from "../../src/demo/embedded-postgres.ts";
import { type PostgresBinaries, resolveBinaries } from "../../src/demo/postgres-binaries.ts";

const run = promisify(execFile);

const templatesFolder = fileURLToPath(new URL("../../node_modules/.cache/pg-flo-clusters", import.meta.url));

export type PostgresVersion = 14 | 15 | 16 | 17 | 18;
export const postgresVersions: readonly PostgresVersion[] = [14, 15, 16, 17, 18];

export interface TestServer extends AsyncDisposable {
  readonly version: PostgresVersion;
  readonly port: number;
  /** stop and start, kill, restart with other settings, the log. */
  readonly server: EmbeddedPostgres;
  /** How to reach `database` as the superuser (`postgres`) or as another role. */
  config(database?: string, login?: { readonly user: string; readonly password: string }): ConnectionConfig;
  /** A new empty database, in UTF8 unless said otherwise. Disposing it drops it, slots included. */
  createDatabase(name?: string, encoding?: string): Promise<TestDatabase>;
  /** Runs one statement in `database` as the superuser in a connection of its own. */
  query<Row extends pg.QueryResultRow = pg.QueryResultRow>(sql: string, database?: string): Promise<Row[]>;
  restart: EmbeddedPostgres["restart"];
  kill: EmbeddedPostgres["kill"];
}

export interface TestDatabase extends AsyncDisposable {
  readonly name: string;
  readonly config: ConnectionConfig;
  /** Connected as the superuser. Lost when the server restarts: then use `connect`. */
  readonly client: pg.Client;
  /** Another connection; closed with the database at the latest. */
  connect(): Promise<pg.Client>;
}

/** Nothing waits for the disk: these clusters never outlive a test. `settings` may turn it on again. */
const testSettings: PostgresSettings = { fsync: "off", full_page_writes: "off" };

export interface TestServerOptions {
  readonly version?: PostgresVersion;
  readonly settings?: PostgresSettings;
  /** Its files are on disk, as those of a real server are: for benchmarks, and for what is larger than memory. */
  readonly onDisk?: boolean;
}

/** Starts a server (a quarter of a second). Use it with `await using`. */
export async function startPostgres(options: TestServerOptions = {}): Promise<TestServer> {
  const version = options.version ?? 18;
  const found = await binariesOf(version);
  const binaries = options.onDisk ? found : { ...found, tempRoot: await memoryRoot(found) };
  const template = await clusterTemplate(found);
  const server = await startEmbedded({
    ...{ binaries, settings: { ...testSettings, ...options.settings } },
    ...(template && { template }),
  });
  return {
    version,
    server,
    get port() {
      return server.port;
    },
    config: (database, login) => server.config(database, login),
    createDatabase: (name, encoding) =>
      createDatabase(server, name ?? `test_${randomBytes(4).toString("hex")}`, encoding),
    query: async <Row extends pg.QueryResultRow>(sql: string, database = "postgres") => {
      const client = await connectTo(server.config(database));
      try {
        return (await client.query<Row>(sql)).rows;
      } finally {
        await client.end();
      }
    },
    restart: (restartOptions) => server.restart(restartOptions),
    kill: () => server.kill(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const resolved = new Map<PostgresVersion, Promise<PostgresBinaries>>();

/** Looked up once for each process: it asks several programs. */
export function binariesOf(version: PostgresVersion): Promise<PostgresBinaries> {
  const name = version === 18 ? "embedded-postgres" : `embedded-postgres-${version}`;
  const known = resolved.get(version) ?? resolveBinaries(name);
  resolved.set(version, known);
  return known;
}

const MEMORY_ROOT = "/dev/shm";
const MEMORY_FREE_BYTES = 6 * 2 ** 30;

/** Making a cluster writes a thousand files: in memory it takes half of the time, where there is room for it. */
async function memoryRoot({ tempRoot }: PostgresBinaries): Promise<string> {
  try {
    const { mode } = await stat(MEMORY_ROOT);
    const { bavail, bsize } = await statfs(MEMORY_ROOT);
    return (mode & 0o777) === 0o777 && bavail * bsize >= MEMORY_FREE_BYTES ? MEMORY_ROOT : tempRoot;
  } catch {
    return tempRoot; // not Linux
  }
}

/**
 * A new cluster that all tests begin with a copy of, so that initdb runs once for each version and user. Tests of several
 * processes may make it at the same time: the first one that is ready counts. Null where it cannot be kept.
 */
async function clusterTemplate(binaries: PostgresBinaries): Promise<ClusterTemplate | null> {
  const owner = binaries.user?.uid ?? process.getuid?.() ?? 0;
  const folder = join(templatesFolder, `${binaries.version}-${owner}`);
  const password = () => readFile(join(folder, "password"), "utf8");
  const known = await password().catch(() => null);
  if (known !== null) return { dataFolder: join(folder, "data"), password: known };
  const own = await mkdir(templatesFolder, { recursive: true })
    .then(() => mkdtemp(`${folder}.`))
    .catch(() => null); // the checkout is another user's
  if (own === null) return null;
  try {
    await using server = await startEmbedded({ binaries, settings: testSettings });
    await server.halt();
    await run("cp", ["-a", server.dataFolder, join(own, "data")]);
    await writeFile(join(own, "password"), server.password);
    await rename(own, folder);
  } catch (error) {
    await rm(own, { recursive: true, force: true });
    if (!["ENOTEMPTY", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
  return { dataFolder: join(folder, "data"), password: await password() };
}

/** A connected client. Errors of an idle connection (a test killed the server) show at its next query. */
export async function connectTo(config: ConnectionConfig): Promise<pg.Client> {
  const { host, port, database, user } = config;
  const client = new pg.Client({ host, port, database, user, password: config.password ?? "" });
  client.on("error", () => {});
  await client.connect();
  return client;
}

async function createDatabase(server: EmbeddedPostgres, name: string, encoding = "UTF8"): Promise<TestDatabase> {
  const quoted = pg.escapeIdentifier(name);
  await administer(server, async (admin) => {
    await admin.query(`create database ${quoted} encoding '${encoding}' locale 'C' template template0`);
  });
  const config = server.config(name);
  const clients: pg.Client[] = [];
  const connect = async () => {
    const client = await connectTo(config);
    clients.push(client);
    return client;
  };
  return {
    name,
    config,
    client: await connect(),
    connect,
    async [Symbol.asyncDispose]() {
      for (const client of clients) await client.end().catch(() => {});
      await administer(server, async (admin) => {
        // Slots are in use for a moment after their reader was killed.
        const terminate = "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where database = $1";
        await admin.query(`${terminate} and active_pid is not null`, [name]);
        await admin.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1", [
          name,
        ]);
        await admin.query(`drop database ${quoted} with (force)`);
      });
    },
  };
}

async function administer(server: EmbeddedPostgres, work: (admin: pg.Client) => Promise<void>): Promise<void> {
  const admin = await connectTo(server.config("postgres"));
  try {
    await work(admin);
  } finally {
    await admin.end();
  }
}
