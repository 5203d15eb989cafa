// A slot that is lost, with rows changed and deleted while there is none: what going on costs, and how many rows are read.
//   npm run bench:lost-slot -- [--rows 20000000] [--changes 1000] [--table ten]
// Copying all again, in the same run, is what it is compared with.
import { parseArgs } from "node:util";
import { startPostgres } from "../test/support/postgres.ts";
import { seconds } from "./support/measured-process.ts";
import { mirrorTable } from "./support/mirrored-table.ts";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "20000000" },
    changes: { type: "string", default: "1000" },
    table: { type: "string", default: "ten" },
  },
});
const rowCount = Number(options.rows);
const step = Math.floor(rowCount / Number(options.changes));
const settings = { shared_buffers: "1GB", max_wal_size: "16GB", autovacuum: "off", wal_level: "logical" };

await using server = await startPostgres({ onDisk: true, settings });
await using database = await server.createDatabase("bench");
const copyStarted = performance.now();
await using mirrored = await mirrorTable(database, options.table, rowCount);
console.log(`filled and copied in ${seconds(performance.now() - copyStarted)}`);
await database.client.query("select pg_drop_replication_slot('pg_flo_bench_1')");
const { rowCount: updated } = await database.client.query(
  `update ${options.table} set qty = -1 where id % ${step} = 0`,
);
const { rowCount: deleted } = await database.client.query(`delete from ${options.table} where id % ${step} = 1`);
const started = performance.now();
const result = await mirrored.run("replicate", "--resync", "--until-caught-up", "--json");
if (result.code !== 0) throw new Error(result.stderr);
const lines = result.stderr
  .split("\n")
  .filter(Boolean)
  .map((line) => JSON.parse(line));
const compared = lines.find(({ message }) => message === "table compared");
const recovered = lines.find(({ message }) => message?.startsWith("stream recovered"));
console.log(
  `${updated} rows changed, ${deleted} deleted of ${rowCount}: mended in ${seconds(performance.now() - started)}`,
);
console.log(`keys and checksums brought together: ${compared.listedRows} of both sides; ${recovered.message}`);
await using worker = mirrored.spawn("replicate");
const verified = await mirrored.run("verify", "--json");
console.log(`verify afterwards: ${verified.code === 0 ? "equal" : verified.stdout}`);
if (verified.code !== 0 || !worker.running) process.exitCode = 1;
