// The copy against psql: `pg-flo replicate` of one table, over psql's COPY (format binary) of the same to /dev/null.
//   npm run bench:copy -- [--rows 5000000] [--runs 3] [--tables ten,wide,narrow,texts]
// The copy's time is from its first range to its last one in the manifest, as replicate logs it; the whole process with
// start, discovery and slot is printed beside it.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { connectionEnvironment, findTools, type PostgresTools } from "../test/support/tools.ts";
import { type Measured, measure, median, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";
import { type BenchTable, benchTables, fillStatements } from "./support/tables.ts";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "5000000" },
    runs: { type: "string", default: "3" },
    tables: { type: "string", default: "ten,wide,narrow,texts" },
  },
});
const runs = Number(options.runs);
const settings = { shared_buffers: "2GB", max_wal_size: "16GB", autovacuum: "off", wal_level: "logical" };

interface CopyRun extends Measured {
  readonly copyMs: number;
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

async function replicate(database: TestDatabase, table: string, parallel: number): Promise<CopyRun> {
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
  try {
    const { host, port, user, password, database: name } = database.config;
    const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
    const config = join(folder, "pg-flo.yaml");
    const content = {
      group: "bench",
      source,
      storage: "./data",
      schemas: { public: { [table]: {} } },
      copy: { parallel: String(parallel) },
    };
    await writeFile(config, JSON.stringify(content));
    const run = await measure(process.execPath, [
      binary,
      "replicate",
      "--until-caught-up",
      "--json",
      "--config",
      config,
    ]);
    const lines = run.stderr
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { time: string; message: string });
    const at = (message: string): number => Date.parse(lines.find((line) => line.message === message)!.time);
    await measure(process.execPath, [binary, "drop", "--yes", "--config", config]);
    return { ...run, copyMs: at("table copied") - at("copying") };
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
    const copies: CopyRun[] = [];
    // In turn, so that a machine that gets slower does so for both.
    for (let run = 0; run <= runs; run++) {
      const reference = await psqlCopy(tools, database, table.name, parallel);
      const copy = await replicate(database, table.name, parallel);
      if (run === 0) continue; // warms the caches
      references.push(reference);
      copies.push(copy);
    }
    const ratios = copies.map((copy, run) => copy.copyMs / references[run]!.wallMs).sort((a, b) => a - b);
    const reference = median(references);
    const copy = median(copies);
    console.log(
      `  ${parallel} connection(s): psql ${seconds(reference.wallMs)} (${seconds(reference.cpuMs)} CPU), ` +
        `copy ${seconds(copy.copyMs)}, process ${seconds(copy.wallMs)}, ` +
        `${(copy.cpuMs / 1000 / (rowCount / 1e6)).toFixed(2)} CPU s per million rows, peak ${megabytes(copy.peakBytes)}`,
    );
    console.log(
      `    copy over psql: ${ratios.map((ratio) => ratio.toFixed(2)).join(" ")} (median ${ratios[ratios.length >> 1]!.toFixed(2)})`,
    );
  }
  await database.client.query(`drop table ${table.name}`);
}

await using built = await buildPackage();
const { binary } = built;
const tools = await findTools();
await using server = await startPostgres({ settings });
await using database = await server.createDatabase("bench");
for (const name of options.tables.split(",")) {
  const table = benchTables.find((candidate) => candidate.name === name);
  if (!table) throw new Error(`no table ${name}; there are ${benchTables.map((known) => known.name).join(", ")}`);
  await benchTable(tools, database, table, Math.round(Number(options.rows) * table.share));
}
