// One transaction of millions of rows (insert, then update half, then delete a tenth): the time until its net effect is
// durable in files, over pg_recvlogical draining the same content from another slot to /dev/null, and the peak memory of
// the process. Both over TCP, in turn, in the same run; both are streamed the transaction.
//   npm run bench:transaction -- [--rows 2000000] [--runs 1] [--memory 128MB] [--kill]
// With --kill another group gets the same: a worker runs while the transaction does, and none of it is in a file before
// COMMIT; then workers are killed in the middle of bringing it together, and the last one has it exactly once.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { queryDuckdb } from "../test/support/parquet-readers.ts";
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
    kill: { type: "boolean", default: false },
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

/** Ends the worker with SIGKILL after a time. */
async function replicateUntilKilled(config: string, ms: number): Promise<void> {
  const args = [built.binary, "replicate", "--until-caught-up", "--config", config];
  const child = spawn(process.execPath, args, { stdio: "ignore" });
  const ended = once(child, "exit");
  await Promise.race([sleep(ms), ended]);
  child.kill("SIGKILL");
  const [code] = await ended;
  if (code !== null) throw new Error(`the worker ended with ${code} before it was killed after ${Math.round(ms)} ms`);
}

/** Kills at shares of the time that it takes, then lets one finish, and compares what the files say with the source. */
async function killInTheMiddle(config: string, group: string, wholeMs: number): Promise<void> {
  for (const share of [0.2, 0.4, 0.6, 0.8]) {
    await replicateUntilKilled(config, wholeMs * share);
    const seen = await fileRows(database, group);
    console.log(`  killed after ${seconds(wholeMs * share)}: ${seen} rows in files`);
    if (seen !== 0) throw new Error("a part of the transaction is visible");
  }
  await replicate(config);
  const { rows } = await database.client.query<{ path: string }>(
    "select path from _pg_flo.files where group_name = $1",
    [group],
  );
  const paths = rows.map(({ path }) => `'${join(folder, group, path)}'`).join(", ");
  const facts =
    "count(*) as n, count(distinct id) as keys, sum(id) as ids, sum(qty) as qty, count(distinct uid) as uids";
  const [mirrored] = await queryDuckdb(`select concat_ws(' ', n, keys, ids, qty, uids) from
    (select ${facts} from read_parquet([${paths}]) where _pg_flo_operation = 'INSERT')`);
  const source = await database.client.query(
    `select concat_ws(' ', n, keys, ids, qty, uids) as facts from (select ${facts} from ten) f`,
  );
  const [ours, theirs] = [String(mirrored!.values[0]), String(source.rows[0].facts)];
  console.log(`  then finished: rows, keys, sums ${ours}; the source has ${theirs}`);
  if (ours !== theirs) throw new Error("files and source differ");
}

await using built = await buildPackage();
const tools = await findTools();
await using server = await startPostgres({ onDisk: true, settings });
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
  const killed = options.kill ? await writeConfig(folder, database, "killed") : null;
  if (killed !== null) await replicate(killed);
  await database.client.query("begin");
  await database.client.query(`insert into ten select ${table.values} from generate_series(1, ${rowCount}) g`);
  await database.client.query("update ten set qty = qty + 1, status = 'updated' where id % 2 = 0");
  await database.client.query("delete from ten where id % 10 = 1");
  if (killed !== null) {
    await replicate(killed); // reads all of it, as far as it is there
    const seen = await fileRows(database, "killed");
    console.log(`before COMMIT: ${seen} rows in files`);
    if (seen !== 0) throw new Error("a part of an open transaction is visible");
  }
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
  if (killed !== null) await killInTheMiddle(killed, "killed", mine.wallMs);
} finally {
  await rm(folder, { recursive: true });
}
