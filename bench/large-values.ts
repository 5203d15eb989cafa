// Values of hundreds of megabytes, copied and streamed: the peak memory of the process over that of one value, and time.
// Each case is a run of its own, so that its peak is its own.
//   npm run bench:large -- [--megabytes 200] [--types text,jsonb,bytea] [--rows 1,10]
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startPostgres, type TestDatabase } from "../test/support/postgres.ts";
import { measure, megabytes, seconds } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";

const { values: options } = parseArgs({
  options: {
    megabytes: { type: "string", default: "200" },
    types: { type: "string", default: "text,jsonb,bytea" },
    rows: { type: "string", default: "1,10" },
  },
});
const valueBytes = Number(options.megabytes) * 1e6;
/** Made once at the server: hashes, which hardly compress. */
const hashes = `(select string_agg(md5(i::text), '') from generate_series(1, ${Math.round(valueBytes / 32)}) i)`;
const expressions: Readonly<Record<string, string>> = {
  text: "value",
  jsonb: "jsonb_build_object('a', left(value, length(value) / 2), 'b', right(value, length(value) / 2))",
  bytea: "convert_to(value, 'UTF8')",
};

await using built = await buildPackage();
await using server = await startPostgres({
  onDisk: true,
  settings: { shared_buffers: "256MB", max_wal_size: "16GB", autovacuum: "off" },
});
const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
try {
  console.log(`values of ${options.megabytes} MB`);
  for (const type of options.types.split(",")) {
    for (const rows of options.rows.split(",").map(Number)) await runCase(type, rows);
  }
} finally {
  await rm(folder, { recursive: true });
}

async function runCase(type: string, rows: number): Promise<void> {
  await using database = await server.createDatabase();
  const { client } = database;
  const group = `${database.name}`;
  const config = await writeConfig(database, group);
  const replicate = async (what: string) => {
    const { wallMs, cpuMs, peakBytes } = await measure(process.execPath, [
      ...[built.binary, "replicate", "--until-caught-up", "--config", config],
    ]);
    const multiple = (peakBytes / valueBytes).toFixed(1);
    console.log(
      `  ${type}, ${what}: peak ${megabytes(peakBytes)}, ${multiple} values, ${seconds(wallMs)} (${seconds(cpuMs)} CPU)`,
    );
  };
  await client.query(`create table source as select ${expressions[type]} as v from (select ${hashes} as value) s`);
  await client.query(
    `create table large (id int primary key, v ${type}); alter table large alter v set storage external`,
  );
  await replicate("nothing");
  await client.query("alter table large rename to away; create table large (like away including all)");
  for (let id = 1; id <= rows; id++) await client.query("insert into large select $1, v from source", [id]);
  await replicate(`${rows} copied`);
  for (let id = 1; id <= rows; id++) await client.query("insert into large select $1 + 1000, v from source", [id]);
  await replicate(`${rows} inserted`);
  for (let id = 1; id <= rows; id++)
    await client.query("update large set v = s.v from source s where id = $1 + 1000", [id]);
  await replicate(`${rows} updated`);
  await client.query("update large set id = -id");
  await replicate(`${2 * rows} moved to another key in one transaction`);
}

async function writeConfig(database: TestDatabase, group: string): Promise<string> {
  const { host, port, user, password, database: name } = database.config;
  const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
  const config = join(folder, `${group}.yaml`);
  await writeFile(config, JSON.stringify({ group, source, storage: `./${group}`, schemas: { public: { large: {} } } }));
  return config;
}
