// Many small batches of a table, then merged, then folded: the number of files, and the time of the same query before and
// after. The query reads every row of the state; its time is that of the whole command.
//   npm run bench:compact -- [--rows 300000] [--batches 300] [--changes 200] [--runs 3]
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { spawnCli } from "../test/support/cli.ts";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { type Measured, measure, median, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";
import { benchTables, fillStatements } from "./support/tables.ts";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "300000" },
    batches: { type: "string", default: "300" },
    changes: { type: "string", default: "200" },
    runs: { type: "string", default: "3" },
  },
});
const [rowCount, batchCount, changeCount, runs] = [options.rows, options.batches, options.changes, options.runs].map(
  Number,
) as [number, number, number, number];
const table = benchTables.find(({ name }) => name === "ten")!;
const QUERY = "select count(*) as rows, sum(qty)::bigint as sum, max(status) as status from ten";

async function writeConfig(file: string, database: TestDatabase, more: object = {}): Promise<void> {
  const { host, port, user, password, database: name } = database.config;
  const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
  const stream = { flush_interval: "100ms" };
  const config = { group: "bench", source, storage: "./data", schemas: { public: { ten: {} } }, stream, ...more };
  await writeFile(file, JSON.stringify(config));
}

async function newestBatch(database: TestDatabase): Promise<number> {
  const { rows } = await database.client.query("select coalesce(max(batch), 0)::int as batch from _pg_flo.streams");
  return rows[0].batch;
}

/** Each in a batch of its own. */
async function writeBatches(database: TestDatabase): Promise<void> {
  for (let n = 0; n < batchCount; n++) {
    const before = await newestBatch(database);
    await database.client.query(
      `update ten set qty = qty + 1, status = 'changed' where id in (
         select 1 + (random() * ${rowCount - 1})::int from generate_series(1, ${changeCount}))`,
    );
    while ((await newestBatch(database)) === before) await sleep(10);
  }
}

await using built = await buildPackage();
await using server = await startPostgres({ onDisk: true, settings: { wal_level: "logical" } });
await using database = await server.createDatabase("bench");
const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
const config = join(folder, "pg-flo.yaml");
const run = (...args: string[]) =>
  measure(process.execPath, [built.binary, ...args, "--config", config], { keepOutput: true });

async function report(what: string): Promise<void> {
  const { rows } = await database.client.query(
    "select count(*)::int as files, sum(size_bytes)::float8 as bytes from _pg_flo.files",
  );
  const times: Measured[] = [];
  for (let n = 0; n < runs; n++) times.push(await run("query", QUERY, "--json"));
  const { wallMs, stdout } = median(times);
  const { files, bytes } = rows[0];
  console.log(
    `${what}: ${files} files, ${(bytes / 1e6).toFixed(1)} MB, query ${seconds(wallMs)}, answer ${stdout.trim()}`,
  );
}

try {
  for (const statement of fillStatements(table, rowCount)) await database.client.query(statement);
  await writeConfig(config, database);
  {
    await using worker = spawnCli(["replicate", "--config", config], { timeoutMs: 600_000 });
    await worker.saw(/streaming/);
    await writeBatches(database);
    worker.kill("SIGTERM");
    await worker.ended;
  }
  console.log(`${rowCount} rows, ${batchCount} batches of about ${changeCount} updates`);
  await report("before");
  const merged = await run("compact");
  console.log(`merging took ${seconds(merged.wallMs)}, peak ${megabytes(merged.peakBytes)}`);
  await report("merged");
  await database.client.query("update _pg_flo.files set created_at = created_at - interval '2 days'");
  await writeConfig(config, database, { history: "1d" });
  const folded = await run("compact");
  console.log(`folding took ${seconds(folded.wallMs)}, peak ${megabytes(folded.peakBytes)}`);
  await report("folded");
} finally {
  await rm(folder, { recursive: true, force: true });
}
