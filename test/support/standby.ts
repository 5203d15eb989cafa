// A physical standby of a test server: a copy of its files, taken while it runs, that follows it by a slot of its own.
// Its primary's slots are synchronized when they are failover slots (PostgreSQL 17 and later).
import { execFile } from "node:child_process";
import { appendFile, chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import { EmbeddedPostgres } from "../../src/demo/embedded-postgres.ts";
import { binariesOf, connectTo, type TestServer } from "./postgres.ts";

const run = promisify(execFile);
const SLOT = "standby";

export interface TestStandby extends AsyncDisposable {
  readonly server: EmbeddedPostgres;
  config(database?: string): ConnectionConfig;
  query<Row extends object>(sql: string, database?: string): Promise<Row[]>;
  /** Until it has replayed everything that the primary has written so far. */
  caughtUp(): Promise<void>;
  /** Copies the primary's failover slots now, not when its worker gets to it. */
  syncSlots(): Promise<void>;
  /** Makes it a primary, on a timeline of its own. */
  promote(): Promise<void>;
}

export async function startStandby(primary: TestServer): Promise<TestStandby> {
  const binaries = await binariesOf(primary.version);
  const folder = await mkdtemp(join(dirname(primary.server.folder), "pg-flo-standby-"));
  try {
    await chmod(folder, 0o700);
    const server = new EmbeddedPostgres(binaries, folder, primary.server.password);
    await copyFiles(primary, server);
    if (binaries.user) {
      await run("chown", ["-R", `${binaries.user.uid}:${binaries.user.gid}`, server.dataFolder]);
      await chown(folder, binaries.user.uid, binaries.user.gid);
    }
    await server.start();
    return standby(primary, server);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP */
async function copyFiles(primary: TestServer, { folder, dataFolder }: EmbeddedPostgres): Promise<void> {
  await primary.query(
    `select pg_create_physical_replication_slot('${SLOT}', true) where not exists (
       select from pg_replication_slots where slot_name = '${SLOT}')`,
  );
  const client = await connectTo(primary.config());
  try {
    await client.query("select pg_backup_start('standby', true)");
    await run("cp", ["-a", primary.server.dataFolder, dataFolder]).catch(ignoreVanished);
    const { rows } = await client.query<{ label: string }>("select labelfile as label from pg_backup_stop(false)");
    await writeFile(join(dataFolder, "backup_label"), rows[0]!.label);
  } finally {
    await client.end();
  }
  await run("sh", ["-c", 'cd "$0" && rm -rf postmaster.pid postmaster.opts pg_replslot/* pg_dynshmem/*', dataFolder]);
  await writeFile(join(dataFolder, "standby.signal"), "");
  const { host, port, user, password } = primary.config();
  const settings = [
    `primary_conninfo = 'host=${host} port=${port} user=${user} password=${password} dbname=postgres'`,
    `primary_slot_name = '${SLOT}'`,
    "hot_standby_feedback = on",
    "wal_receiver_status_interval = 1",
    `unix_socket_directories = '${folder}'`,
    ...(primary.version >= 17 ? ["sync_replication_slots = off"] : []),
  ];
  await appendFile(join(dataFolder, "postgresql.conf"), `\n${settings.join("\n")}\n`);
}

/** Files of a running server come and go; what matters of them is in the log. */
function ignoreVanished(error: { readonly stderr?: string }): void {
  if (!/No such file or directory/.test(error.stderr ?? "")) throw error;
}

function standby(primary: TestServer, server: EmbeddedPostgres): TestStandby {
  const query = async <Row extends object>(sql: string, database = "postgres"): Promise<Row[]> => {
    const client = await connectTo(server.config(database));
    try {
      return (await client.query<Row & Record<string, unknown>>(sql)).rows;
    } finally {
      await client.end();
    }
  };
  return {
    server,
    config: (database) => server.config(database),
    query,
    caughtUp: async () => {
      const [end] = await primary.query<{ lsn: string }>("select pg_current_wal_flush_lsn() as lsn");
      for (;;) {
        const [at] = await query<{ there: boolean }>(`select pg_last_wal_replay_lsn() >= '${end!.lsn}' as there`);
        if (at!.there) return;
        await sleep(50);
      }
    },
    syncSlots: async () => {
      for (;;) {
        try {
          await query("select pg_sync_replication_slots()");
          return;
        } catch (error) {
          // "the received slot sync LSN is ahead of the standby position": it has not flushed that far yet.
          if (!(error instanceof Error) || !/ahead of the standby position/.test(error.message)) throw error;
        }
        await sleep(100);
      }
    },
    promote: async () => {
      await query("select pg_promote(true, 60)");
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
