// Latency from COMMIT to durable: transactions come at a steady rate, and for each one it is measured how long after its
// COMMIT returned a batch's position covers it, as anybody sees it who reads the metadata. Asked: the 99th percentile
// is not above the flush interval and 0.3 s.
//   npm run bench:latency -- [--seconds 45] [--rate 5000] [--per-transaction 10] [--flush 1s]
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Client } from "pg";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { measure, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";
import { benchTables, fillStatements } from "./support/tables.ts";

const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "45" },
    rate: { type: "string", default: "5000" },
    "per-transaction": { type: "string", default: "10" },
    flush: { type: "string", default: "1s" },
  },
});
const rate = Number(options.rate);
const perTransaction = Number(options["per-transaction"]);
const durationMs = Number(options.seconds) * 1000;
const flushMs = Number.parseFloat(options.flush) * (options.flush.endsWith("ms") ? 1 : 1000);
/** What the worker needs until it runs, and the caches until they are warm: not counted. */
const WARM_UP_MS = 5000;
const POLL_MS = 5;
const ALLOWED_MS = 300;
const WRITERS = 2;
const table = benchTables.find(({ name }) => name === "ten")!;

interface Commit {
  readonly lsn: bigint;
  readonly atMs: number;
}

async function writeConfig(folder: string, database: TestDatabase): Promise<string> {
  const { host, port, user, password, database: name } = database.config;
  const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
  const config = join(folder, "bench.yaml");
  const stream = { flush_interval: options.flush };
  const schemas = { public: { ten: { mode: "stream-only" } } };
  await writeFile(config, JSON.stringify({ group: "bench", source, storage: "./data", schemas, stream }));
  return config;
}

/** Half inserts, half updates, at the rate, until the time is over. What is late is made up for. */
async function write(client: Client, writer: number, until: number, commits: Commit[]): Promise<void> {
  const half = perTransaction / 2;
  const everyMs = (1000 * perTransaction * WRITERS) / rate;
  await client.query(
    `prepare put(bigint) as insert into ten select ${table.values} from generate_series($1, $1 + ${half - 1}) g`,
  );
  await client.query(`prepare change(bigint) as update ten set qty = qty + 1 where id between $1 and $1 + ${half - 1}`);
  let next = performance.now();
  for (let step = 0; next < until; step++, next += everyMs) {
    const waitMs = next - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    const id = 1_000_000 + (step * WRITERS + writer) * half;
    const old = 1 + (((step * WRITERS + writer) * half) % 90_000);
    const results = (await client.query(
      `begin; execute put(${id}); execute change(${old});
       select pg_current_wal_insert_lsn() - '0/0' as lsn; commit`,
    )) as unknown as readonly { rows: readonly { lsn: string }[] }[];
    const atMs = performance.now();
    // The commit record comes right behind: a batch that ends just between the two is not told from a later one.
    const [row] = results[3]!.rows;
    commits.push({ lsn: BigInt(row!.lsn), atMs });
  }
}

/** Positions as they become visible, with the time at which they were seen. */
async function watch(client: Client, seen: Commit[], done: () => boolean): Promise<void> {
  for (let last = -1n; !done(); await sleep(POLL_MS)) {
    const { rows } = await client.query<{ position: string | null }>("select position from _pg_flo.streams");
    const position = BigInt(rows[0]?.position ?? -1);
    if (position > last) seen.push({ lsn: position, atMs: performance.now() });
    last = position;
  }
}

function latencies(commits: readonly Commit[], seen: readonly Commit[], fromMs: number): number[] {
  const sorted = commits.filter(({ atMs }) => atMs >= fromMs).sort((a, b) => Number(a.lsn - b.lsn));
  let at = 0;
  return sorted.flatMap(({ lsn, atMs }) => {
    while (at < seen.length && seen[at]!.lsn + 1n < lsn) at++;
    return at < seen.length ? [Math.max(0, seen[at]!.atMs - atMs)] : [];
  });
}

await using built = await buildPackage();
await using server = await startPostgres({ onDisk: true, settings: { shared_buffers: "512MB", max_wal_size: "8GB" } });
await using database = await server.createDatabase("bench");
const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
try {
  for (const statement of fillStatements(table, 100_000)) await database.client.query(statement);
  const config = await writeConfig(folder, database);
  await measure(process.execPath, [built.binary, "replicate", "--until-caught-up", "--config", config]);
  const commits: Commit[] = [];
  const seen: Commit[] = [];
  let ended = false;
  const startMs = performance.now();
  const worker = measure(process.execPath, [built.binary, "replicate", "--config", config], { until: () => ended });
  const watching = watch(database.client, seen, () => ended);
  const writers = await Promise.all(Array.from({ length: WRITERS }, () => database.connect()));
  await Promise.all(writers.map((client, writer) => write(client, writer, startMs + WARM_UP_MS + durationMs, commits)));
  const lastMs = performance.now();
  await sleep(flushMs + 2000);
  ended = true;
  await watching;
  const { cpuMs, peakBytes } = await worker;
  const sorted = latencies(commits, seen, startMs + WARM_UP_MS).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
  const reached = (commits.length * perTransaction * 1000) / (lastMs - startMs);
  console.log(
    `${Math.round(reached)} changes/s asked ${rate}, ${perTransaction} a transaction, flush interval ${options.flush}; load of the machine ${loadavg()[0]!.toFixed(1)}`,
  );
  console.log(
    `  ${sorted.length} commits: median ${seconds(at(0.5))}, 99th percentile ${seconds(at(0.99))}, longest ${seconds(at(1))}`,
  );
  console.log(`  asked: 99th percentile at most ${seconds(flushMs + ALLOWED_MS)}`);
  console.log(
    `  ${((cpuMs / 1000 / (commits.length * perTransaction)) * 1e6).toFixed(2)} CPU s per million changes, peak ${megabytes(peakBytes)}`,
  );
} finally {
  await rm(folder, { recursive: true });
}
