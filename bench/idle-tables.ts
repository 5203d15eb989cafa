// WAL that the slot keeps while one table of many is written to, and while only a table is that is not mirrored: it must
// stay small, however long the others are silent. Asked: at most what is written in 30 s (the server tells where decoding
// may begin again every 15 s only) and 64 MB.
//   npm run bench:idle -- [--tables 1000] [--seconds 60]
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Client } from "pg";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { measure, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";

const { values: options } = parseArgs({
  options: { tables: { type: "string", default: "1000" }, seconds: { type: "string", default: "60" } },
});
const tableCount = Number(options.tables);
const durationMs = Number(options.seconds) * 1000;
const SAMPLE_MS = 500;
const PAUSE_MS = 20;
const SLOT_POINT_S = 30;
const ALLOWED_BYTES = 64 * 1024 * 1024;

interface Sample {
  readonly written: number;
  /** Behind the slot's restart_lsn, and behind its confirmed_flush_lsn. */
  readonly retained: number;
  readonly unconfirmed: number;
}

async function writeConfig(folder: string, database: TestDatabase): Promise<string> {
  const { host, port, user, password, database: name } = database.config;
  const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
  const config = join(folder, "bench.yaml");
  const settings = { group: "bench", source, storage: "./data", schemas: { public: "*" } };
  await writeFile(config, JSON.stringify({ ...settings, stream: { flush_interval: "1s" } }));
  return config;
}

/** Inserts until the time is over; gives the samples that were taken meanwhile. */
async function writeTo(table: string, client: Client, watcher: Client): Promise<readonly Sample[]> {
  const { rows } = await watcher.query<{ lsn: string }>("select pg_current_wal_lsn() - '0/0' as lsn");
  const start = BigInt(rows[0]!.lsn);
  const end = performance.now() + durationMs;
  const samples: Sample[] = [];
  const watching = (async () => {
    for (; performance.now() < end; await sleep(SAMPLE_MS)) samples.push(await sample(watcher, start));
  })();
  for (; performance.now() < end; await sleep(PAUSE_MS)) {
    await client.query(`insert into ${table} (x) select repeat(md5(n::text), 20) from generate_series(1, 100) n`);
  }
  await watching;
  return samples;
}

async function sample(client: Client, start: bigint): Promise<Sample> {
  const { rows } = await client.query<{ now: string; retained: string; unconfirmed: string }>(
    `select pg_current_wal_lsn() - '0/0' as now, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) as retained,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) as unconfirmed
     from pg_replication_slots where slot_name = 'pg_flo_bench_1'`,
  );
  const [row] = rows;
  return {
    written: Number(BigInt(row!.now) - start),
    retained: Number(row!.retained),
    unconfirmed: Number(row!.unconfirmed),
  };
}

function report(what: string, samples: readonly Sample[]): void {
  const written = samples.at(-1)!.written;
  const most = (of: (each: Sample) => number) => samples.reduce((max, each) => Math.max(max, of(each)), 0);
  const allowed = Math.max(ALLOWED_BYTES, (written / (durationMs / 1000)) * SLOT_POINT_S);
  console.log(
    `  ${what}: ${megabytes(written)} of WAL written, kept at most ${megabytes(most((each) => each.retained))} ` +
      `(asked: at most ${megabytes(allowed)}), not confirmed at most ${megabytes(most((each) => each.unconfirmed))}; ` +
      `at the end ${megabytes(samples.at(-1)!.retained)} and ${megabytes(samples.at(-1)!.unconfirmed)}`,
  );
}

await using built = await buildPackage();
await using server = await startPostgres({
  onDisk: true,
  settings: { max_wal_size: "8GB", max_locks_per_transaction: "1024" },
});
await using database = await server.createDatabase("bench");
const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
try {
  const { client } = database;
  await client.query(`do $$ begin for n in 1..${tableCount} loop
      execute format('create table idle_%s (id int primary key, x text)', n);
      execute format('insert into idle_%s values (1, %L)', n, 'one');
    end loop; end $$;
    create table busy (id bigint generated always as identity primary key, x text);
    create schema other; create table other.unmirrored (x text);`);
  const config = await writeConfig(folder, database);
  const first = await measure(process.execPath, [built.binary, "replicate", "--until-caught-up", "--config", config]);
  console.log(
    `${tableCount} idle tables, copied in ${seconds(first.wallMs)}; load of the machine ${loadavg()[0]!.toFixed(1)}`,
  );
  let ended = false;
  const worker = measure(process.execPath, [built.binary, "replicate", "--config", config], { until: () => ended });
  const writer = await database.connect();
  report("one busy table", await writeTo("busy", writer, client));
  report("only a table that is not mirrored", await writeTo("other.unmirrored", writer, client));
  ended = true;
  const { cpuMs, peakBytes } = await worker;
  console.log(`  worker: ${(cpuMs / 1000).toFixed(1)} CPU s, peak ${megabytes(peakBytes)}`);
} finally {
  await rm(folder, { recursive: true });
}
