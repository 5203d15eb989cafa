// The stream against pg_recvlogical: changes that wait in a slot, until all of them are durable in files, over
// pg_recvlogical draining the same content from another slot to /dev/null. Both over TCP, in turn, in the same run.
// Shapes: small (10 changes a transaction), single (1), big (1,000,000), wide (10, rows of 25 columns with 4 kB TOASTed
// text, which the updates leave as it is). Half of the changes are inserts, half updates.
//   npm run bench:stream -- [--shape small] [--changes 2000000] [--runs 3] [--per-transaction 10]
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { connectionEnvironment, findTools, type PostgresTools } from "../test/support/tools.ts";
import { type Measured, measure, median, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";
import { benchTables, fillStatements } from "./support/tables.ts";

const { values: options } = parseArgs({
  options: {
    shape: { type: "string", default: "small" },
    changes: { type: "string" },
    runs: { type: "string", default: "3" },
    "per-transaction": { type: "string" },
  },
});
const runs = Number(options.runs);
/** What is asked: the time until durable over that of pg_recvlogical. */
const shapes: Readonly<Record<string, { table: string; changes: number; perTransaction: number; ratioMax: number }>> = {
  small: { table: "ten", changes: 2_000_000, perTransaction: 10, ratioMax: 0.7 },
  single: { table: "ten", changes: 1_000_000, perTransaction: 1, ratioMax: 1 },
  big: { table: "ten", changes: 2_000_000, perTransaction: 1_000_000, ratioMax: 1 },
  wide: { table: "toasted", changes: 800_000, perTransaction: 10, ratioMax: 1 },
};
const shape = shapes[options.shape];
if (!shape) throw new Error(`--shape is one of ${Object.keys(shapes).join(", ")}`);
const changes = Number(options.changes ?? shape.changes);
const perTransaction = Number(options["per-transaction"] ?? shape.perTransaction);
const table = benchTables.find(({ name }) => name === shape.table)!;
const settings = {
  shared_buffers: "2GB",
  max_wal_size: "16GB",
  autovacuum: "off",
  wal_level: "logical",
  max_replication_slots: 20,
  max_wal_senders: 20,
};

async function writeConfig(folder: string, database: TestDatabase, group: string): Promise<string> {
  const { host, port, user, password, database: name } = database.config;
  const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
  const config = join(folder, `${group}.yaml`);
  const schemas = { public: { [table.name]: { mode: "stream-only" } } };
  await writeFile(config, JSON.stringify({ group, source, storage: `./${group}`, schemas }));
  return config;
}

function replicate(config: string): Promise<Measured> {
  return measure(process.execPath, [binary, "replicate", "--until-caught-up", "--config", config]);
}

/** Half inserts, half updates of rows inserted before, `perTransaction` changes a transaction. */
async function makeChanges(database: TestDatabase): Promise<void> {
  const half = perTransaction / 2;
  await database.client.query("set synchronous_commit = off");
  const { rows } = await database.client.query<{ max: string }>(
    `select coalesce(max(id), 0) as max from ${table.name}`,
  );
  const first = Number(rows[0]!.max);
  await database.client.query(`
    do $$ begin
      for i in 0..${changes / perTransaction - 1} loop
        if ${half} >= 1 or i % 2 = 0 then
          insert into ${table.name} select ${table.values}
          from generate_series(${first} + 1 + (i * ${half})::int, ${first} + greatest(1, ((i + 1) * ${half})::int)) g;
        end if;
        if ${half} >= 1 or i % 2 = 1 then
          update ${table.name} set qty = qty + 1, status = 'updated' where id between 1 + (i * ${half})::int and greatest(1, ((i + 1) * ${half})::int);
        end if;
        commit;
      end loop;
    end $$`);
}

function drain(
  tools: PostgresTools,
  database: TestDatabase,
  slot: string,
  publication: string,
  end: string,
): Promise<Measured> {
  const args = ["-d", database.name, "-S", slot, "--start", "-f", "/dev/null", "--no-loop", `--endpos=${end}`];
  const plugin = [
    "proto_version=4",
    `publication_names=${publication}`,
    "binary=true",
    "messages=true",
    "streaming=on",
  ].flatMap((option) => ["-o", option]);
  return measure(tools.pg_recvlogical, [...args, ...plugin], {
    env: { ...tools.env, ...connectionEnvironment(database.config) },
  });
}

await using built = await buildPackage();
const { binary } = built;
const tools = await findTools();
await using server = await startPostgres({ onDisk: true, settings });
await using database = await server.createDatabase("bench");
const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
try {
  for (const statement of fillStatements(table, changes / 2)) await database.client.query(statement);
  const configs: string[] = [];
  for (let run = 0; run <= runs; run++) {
    const config = await writeConfig(folder, database, `bench${run}`);
    await replicate(config); // creates the slot
    await database.client.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [`reference_${run}`]);
    configs.push(config);
  }
  await makeChanges(database);
  const { rows } = await database.client.query<{ lsn: string }>("select pg_current_wal_flush_lsn() as lsn");
  const ratios: number[] = [];
  const ours: Measured[] = [];
  const references: Measured[] = [];
  for (let run = 0; run <= runs; run++) {
    const reference = await drain(tools, database, `reference_${run}`, `pg_flo_bench${run}_1`, rows[0]!.lsn);
    const mine = await replicate(configs[run]!);
    await rm(join(folder, `bench${run}`), { recursive: true }); // else each run fills more of the machine's memory
    if (run === 0) continue; // warms the caches
    references.push(reference);
    ours.push(mine);
    ratios.push(mine.wallMs / reference.wallMs);
  }
  const reference = median(references);
  const mine = median(ours);
  const perMillion = mine.cpuMs / 1000 / (changes / 1e6);
  const load = loadavg()[0]!.toFixed(1);
  const sizes = `${changes.toLocaleString("en-US")} changes, ${perTransaction.toLocaleString("en-US")} a transaction`;
  console.log(`${options.shape}: ${sizes}; load of the machine ${load} on ${availableParallelism()} processors`);
  console.log(`  pg_recvlogical ${seconds(reference.wallMs)} (${seconds(reference.cpuMs)} CPU)`);
  console.log(
    `  until durable ${seconds(mine.wallMs)}, ${perMillion.toFixed(2)} CPU s per million changes, peak ${megabytes(mine.peakBytes)}`,
  );
  console.log(
    `  over pg_recvlogical: ${ratios
      .sort((a, b) => a - b)
      .map((ratio) => ratio.toFixed(2))
      .join(" ")} (median ${ratios[ratios.length >> 1]!.toFixed(2)}, asked at most ${shape.ratioMax})`,
  );
} finally {
  await rm(folder, { recursive: true });
}
