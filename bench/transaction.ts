// One transaction of millions of rows (insert, then update half, then delete a tenth): the time until its net effect is
// durable in files, over pg_recvlogical draining the same content from another slot to /dev/null, and the peak memory of
// the process. Both over TCP, in turn, in the same run; both are streamed the transaction.
//   npm run bench:transaction -- [--rows 2000000] [--runs 1] [--memory 128MB]
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { connectionEnvironment, findTools } from "../test/support/tools.ts";
import { type Measured, measure, median, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";
import { benchTables } from "./support/tables.ts";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "2000000" },
    runs: { type: "string", default: "1" },
    memory: { type: "string", default: "128MB" },
  },
});
const rowCount = Number(options.rows);
const runs = Number(options.runs);
const table = benchTables.find(({ name }) => name === "ten")!;
const settings = {
  shared_buffers: "1GB",
  max_wal_size: "32GB",
  autovacuum: "off",
  wal_level: "logical",
  max_replication_slots: 20,
  max_wal_senders: 20,
};

async function writeConfig(folder: string, database: TestDatabase, group: string): Promise<string> {
  const { host, port, user, password, database: name } = database.config;
  const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
  const config = join(folder, `${group}.yaml`);
  const schemas = { public: { ten: { mode: "stream-only" } } };
  const stream = { memory: options.memory, spill_folder: "./spill" };
  await writeFile(config, JSON.stringify({ group, source, storage: `./${group}`, schemas, stream }));
  return config;
}

async function fileRows(database: TestDatabase, group: string): Promise<number> {
  const sql = "select sum(row_count) as count from _pg_flo.files where group_name = $1";
  const { rows } = await database.client.query<{ count: string }>(sql, [group]);
  return Number(rows[0]!.count);
}

await using built = await buildPackage();
const tools = await findTools();
await using server = await startPostgres({ settings });
await using database = await server.createDatabase("bench");
const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
const replicate = (config: string) =>
  measure(process.execPath, [built.binary, "replicate", "--until-caught-up", "--config", config]);
try {
  await mkdir(join(folder, "spill"));
  await database.client.query(`create table ${table.name} (${table.columns})`);
  const configs: string[] = [];
  for (let run = 0; run < runs; run++) {
    configs.push(await writeConfig(folder, database, `bench${run}`));
    await replicate(configs[run]!); // creates the slot
    await database.client.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [`reference_${run}`]);
  }
  await database.client.query("begin");
  await database.client.query(`insert into ten select ${table.values} from generate_series(1, ${rowCount}) g`);
  await database.client.query("update ten set qty = qty + 1, status = 'updated' where id % 2 = 0");
  await database.client.query("delete from ten where id % 10 = 1");
  await database.client.query("commit");
  const { rows } = await database.client.query<{ lsn: string }>("select pg_current_wal_flush_lsn() as lsn");
  const ours: Measured[] = [];
  const references: Measured[] = [];
  for (let run = 0; run < runs; run++) {
    const args = ["-d", database.name, "-S", `reference_${run}`, "--start", "-f", "/dev/null", "--no-loop"];
    const plugin = ["proto_version=4", `publication_names=pg_flo_bench${run}_1`, "binary=true", "streaming=on"];
    const end = [`--endpos=${rows[0]!.lsn}`, ...plugin.flatMap((option) => ["-o", option])];
    const env = { ...tools.env, ...connectionEnvironment(database.config) };
    references.push(await measure(tools.pg_recvlogical, [...args, ...end], { env }));
    ours.push(await replicate(configs[run]!));
    const found = await fileRows(database, `bench${run}`);
    const expected = rowCount - Math.ceil(rowCount / 10);
    if (found !== expected) throw new Error(`${found} rows in files, not ${expected}`);
  }
  const reference = median(references);
  const mine = median(ours);
  const changes = rowCount * 1.6;
  console.log(`one transaction, ${rowCount.toLocaleString("en-US")} rows, ${changes.toLocaleString("en-US")} changes`);
  console.log(`  pg_recvlogical ${seconds(reference.wallMs)} (${seconds(reference.cpuMs)} CPU)`);
  console.log(
    `  until durable ${seconds(mine.wallMs)} (${(mine.cpuMs / 1000 / (changes / 1e6)).toFixed(2)} CPU s per million changes), peak ${megabytes(mine.peakBytes)}`,
  );
  console.log(`  over pg_recvlogical: ${(mine.wallMs / reference.wallMs).toFixed(2)}`);
} finally {
  await rm(folder, { recursive: true });
}
