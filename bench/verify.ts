// `pg-flo verify` over the cheapest checksum that PostgreSQL has of the same table, under the same load:
//   npm run bench:verify -- [--rows 20000000] [--runs 3] [--table ten] [--load 200]
// The yardstick is `select count(*), sum(hashtext(t::text))`, which may use parallel workers as verify's query may. Time is
// the whole command's: start, slot, wait for the mirror, both sides.
import { parseArgs } from "node:util";
import { startPostgres } from "../test/support/postgres.ts";
import { seconds } from "./support/measured-process.ts";
import { mirrorTable, startLoad } from "./support/mirrored-table.ts";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "20000000" },
    runs: { type: "string", default: "3" },
    table: { type: "string", default: "ten" },
    load: { type: "string", default: "200" },
  },
});
const rowCount = Number(options.rows);
const settings = { shared_buffers: "1GB", max_wal_size: "16GB", autovacuum: "off", wal_level: "logical" };

await using server = await startPostgres({ onDisk: true, settings });
await using database = await server.createDatabase("bench");
await using mirrored = await mirrorTable(database, options.table, rowCount);
await using worker = mirrored.spawn("replicate");
const load = await startLoad(database, options.table, rowCount, Number(options.load));
const ratios: number[] = [];
// The first run warms the caches.
for (let run = 0; run <= Number(options.runs); run++) {
  const started = performance.now();
  await database.client.query(`select count(*), sum(hashtext(t::text)) from ${options.table} t`);
  const yardstickMs = performance.now() - started;
  const begun = performance.now();
  const result = await mirrored.run("verify", "--json");
  const verifyMs = performance.now() - begun;
  if (result.code !== 0) throw new Error(`${result.stdout}\n${result.stderr}`);
  const [table] = JSON.parse(result.stdout).tables;
  const { sourceRows, buckets, comparedBy, columns, sourceMs, mirrorMs } = table;
  const ratio = verifyMs / yardstickMs;
  console.log(
    `${run === 0 ? "warm-up" : `run ${run}`}: yardstick ${seconds(yardstickMs)}, verify ${seconds(verifyMs)} ` +
      `(source ${seconds(sourceMs)}, mirror ${seconds(mirrorMs)}), ratio ${ratio.toFixed(2)}; ` +
      `${sourceRows} rows, ${columns.compared} columns, ${buckets} buckets by ${comparedBy}`,
  );
  if (run > 0) ratios.push(ratio);
}
const changed = await load.end();
const sorted = ratios.toSorted((a, b) => a - b);
console.log(`median ratio ${sorted[sorted.length >> 1]?.toFixed(2)}; ${changed} rows were changed meanwhile`);
if (!worker.running) throw new Error(worker.stderr);
