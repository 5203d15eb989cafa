// The copy against psql: `pg-flo replicate` of one table, over psql's COPY (format binary) of the same to /dev/null.
//   npm run bench:copy -- [--rows 5000000] [--runs 3] [--tables ten,wide,narrow,texts] [--storage local,s3]
//     [--compression zstd]
// The copy's time is from its first range to its last one in the manifest, as replicate logs it; the whole process with
// start, discovery and slot is printed beside it. With s3 the files go to an S3 server in a process of its own.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { connectionEnvironment, findTools, type PostgresTools } from "../test/support/tools.ts";
import { type Measured, measure, median, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";
import { startS3Process } from "./support/s3-process.ts";
import { type BenchTable, benchTables, fillStatements } from "./support/tables.ts";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "5000000" },
    runs: { type: "string", default: "3" },
    tables: { type: "string", default: "ten,wide,narrow,texts" },
    storage: { type: "string", default: "local" },
    compression: { type: "string", default: "zstd" },
  },
});
const runs = Number(options.runs);
const runFile = promisify(execFile);
const settings = { shared_buffers: "2GB", max_wal_size: "16GB", autovacuum: "off", wal_level: "logical" };

const storageNames = options.storage.split(",");

interface CopyRun extends Measured {
  readonly copyMs: number;
  readonly filesBytes: number;
}

async function psqlCopy(tools: PostgresTools, database: TestDatabase, table: string, parts: number): Promise<Measured> {
  const [row] = (
    await database.client.query<{ blocks: string }>(
      `select pg_relation_size('${table}') / current_setting('block_size')::int as blocks`,
    )
  ).rows;
  const blocks = Number(row!.blocks);
  const env = { ...tools.env, ...connectionEnvironment(database.config) };
  const bounds = (part: number): string =>
    parts === 1
      ? table
      : `(select * from ${table} where ctid >= '(${Math.round((blocks * part) / parts)},0)'
         ${part === parts - 1 ? "" : `and ctid < '(${Math.round((blocks * (part + 1)) / parts)},0)'`})`;
  const started = performance.now();
  const drains = await Promise.all(
    Array.from({ length: parts }, (_, part) =>
      measure(tools.psql, ["-X", "-c", `copy ${bounds(part)} to stdout (format binary)`], { env }),
    ),
  );
  const cpuMs = drains.reduce((sum, drain) => sum + drain.cpuMs, 0);
  return { ...drains[0]!, wallMs: performance.now() - started, cpuMs };
}

async function replicate(
  database: TestDatabase,
  table: string,
  parallel: number,
  storageName: string,
): Promise<CopyRun> {
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
  try {
    const { host, port, user, password, database: name } = database.config;
    const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
    const config = join(folder, "pg-flo.yaml");
    const content = {
      group: "bench",
      source,
      storage: storageName === "s3" ? s3!.url(basename(folder)) : "./data",
      schemas: { public: { [table]: {} } },
      copy: { parallel: String(parallel) },
      compression: options.compression,
    };
    await writeFile(config, JSON.stringify(content));
    const args = [binary, "replicate", "--until-caught-up", "--json", "--config", config];
    const run = await measure(process.execPath, args);
    const lines = run.stderr
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { time: string; message: string });
    const at = (message: string): number => Date.parse(lines.find((line) => line.message === message)!.time);
    const { stdout } = await runFile(process.execPath, [binary, "status", "--json", "--config", config]);
    const { files } = JSON.parse(stdout) as { files: { bytes: number } };
    await measure(process.execPath, [binary, "drop", "--yes", "--files", "--config", config]);
    return { ...run, copyMs: at("table copied") - at("copying"), filesBytes: files.bytes };
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function benchTable(
  tools: PostgresTools,
  database: TestDatabase,
  table: BenchTable,
  rowCount: number,
): Promise<void> {
  for (const statement of fillStatements(table, rowCount)) await database.client.query(statement);
  console.log(`\n${table.name}: ${rowCount.toLocaleString("en-US")} rows`);
  for (const parallel of [1, 2]) {
    const references: Measured[] = [];
    const copies = new Map(storageNames.map((name) => [name, [] as CopyRun[]]));
    // In turn, so that a machine that gets slower does so for all.
    for (let run = 0; run <= runs; run++) {
      const reference = await psqlCopy(tools, database, table.name, parallel);
      if (run > 0) references.push(reference); // the first one warms the caches
      for (const name of storageNames) {
        const copy = await replicate(database, table.name, parallel, name);
        if (run > 0) copies.get(name)!.push(copy);
      }
    }
    const reference = median(references);
    console.log(`  ${parallel} connection(s): psql ${seconds(reference.wallMs)} (${seconds(reference.cpuMs)} CPU)`);
    for (const [name, runsOf] of copies) {
      const copy = median(runsOf);
      const cpu = (copy.cpuMs / 1000 / (rowCount / 1e6)).toFixed(2);
      console.log(
        `    ${name}: copy ${seconds(copy.copyMs)}, process ${seconds(copy.wallMs)}, ${cpu} CPU s per million rows, ` +
          `peak ${megabytes(copy.peakBytes)}, files ${megabytes(copy.filesBytes)}; over psql: ${ratiosText(runsOf, references)}`,
      );
    }
    const [local, s3Copies] = [copies.get("local"), copies.get("s3")];
    if (local && s3Copies) {
      const cpu = (median(s3Copies).cpuMs / median(local).cpuMs).toFixed(2);
      const ratios = s3Copies.map((copy, run) => copy.copyMs / local[run]!.copyMs);
      console.log(`    s3 over local: ${medianText(ratios)}, CPU ${cpu}`);
    }
  }
  await database.client.query(`drop table ${table.name}`);
}

function ratiosText(copies: readonly CopyRun[], references: readonly Measured[]): string {
  return medianText(copies.map((copy, run) => copy.copyMs / references[run]!.wallMs));
}

function medianText(ratios: readonly number[]): string {
  const sorted = ratios.toSorted((a, b) => a - b);
  return `${sorted.map((ratio) => ratio.toFixed(2)).join(" ")} (median ${sorted[sorted.length >> 1]!.toFixed(2)})`;
}

const s3 = storageNames.includes("s3") ? await startS3Process() : null;
await using _ = s3;
await using built = await buildPackage();
const { binary } = built;
const tools = await findTools();
await using server = await startPostgres({ onDisk: true, settings });
await using database = await server.createDatabase("bench");
for (const name of options.tables.split(",")) {
  const table = benchTables.find((candidate) => candidate.name === name);
  if (!table) throw new Error(`no table ${name}; there are ${benchTables.map((known) => known.name).join(", ")}`);
  await benchTable(tools, database, table, Math.round(Number(options.rows) * table.share));
}
