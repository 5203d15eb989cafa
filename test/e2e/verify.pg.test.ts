// `pg-flo verify` beside a worker: equal where it is equal, whatever the types, and every kind of difference down to its row.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32 } from "node:zlib";
import type { Client } from "pg";
import { quoteText, ScratchDatabase } from "../../src/verify/scratch-database.ts";
import type { CliProcess } from "../support/cli.ts";
import { sampledVersions } from "../support/long-form.ts";
import { makePipeline, type TestPipeline } from "../support/pipeline.ts";
import { startPostgres } from "../support/postgres.ts";

interface Verified {
  readonly equal: boolean;
  readonly tables: readonly {
    readonly name: string;
    readonly result: string;
    readonly reason: string | null;
    readonly comparedBy: string;
    readonly columns: { readonly compared: number; readonly notCompared: readonly { readonly name: string }[] };
    readonly sourceRows: number;
    readonly mirrorRows: number;
    readonly listedRows: number;
    readonly rows: readonly { readonly kind: string; readonly key: Readonly<Record<string, string>> }[];
    readonly repaired: {
      readonly rowsRead: number;
      readonly rowsDeleted: number;
      readonly removedFiles: string[];
    } | null;
    readonly missing: number;
    readonly extra: number;
    readonly different: number;
    readonly damagedFiles: readonly { readonly path: string; readonly what: string }[];
  }[];
}

/** Follows the source until the test ends. */
async function following(pipeline: TestPipeline): Promise<CliProcess> {
  const copied = await pipeline.run(["replicate", "--until-caught-up"]);
  assert.equal(copied.code, 0, copied.stderr);
  return pipeline.spawn(["replicate"]);
}

async function verified(pipeline: TestPipeline, ...args: readonly string[]): Promise<Verified> {
  const result = await pipeline.run(["verify", "--json", ...args]);
  assert.notEqual(result.stdout, "", result.stderr);
  const document = JSON.parse(result.stdout) as Verified;
  const well = document.tables.every((table) => table.result !== "different" || table.repaired !== null);
  assert.equal(result.code, well ? 0 : 1, result.stderr);
  return document;
}

/** Writes the largest file of a kind anew; `d` is what it had. The manifest is told, as if pg-flo had written it so. */
async function rewrite(pipeline: TestPipeline, client: Client, kind: "copy" | "stream", select: string): Promise<void> {
  const file = await largestFile(pipeline, client, kind);
  await using db = await ScratchDatabase.open();
  await db.run(`CREATE TABLE d AS FROM read_parquet(${quoteText(file.absolute)})`);
  await db.run(`COPY (${select}) TO ${quoteText(file.absolute)} (FORMAT parquet)`);
  const bytes = await readFile(file.absolute);
  const checksum = `crc32:${crc32(bytes).toString(16).padStart(8, "0")}`;
  await client.query("update _pg_flo.files set size_bytes = $2, checksum = $3 where path = $1", [
    file.path,
    bytes.length,
    checksum,
  ]);
}

async function largestFile(pipeline: TestPipeline, client: Client, kind: "copy" | "stream") {
  const { rows } = await client.query<{ path: string }>(
    "select path from _pg_flo.files where kind = $1 order by row_count desc, file_id limit 1",
    [kind],
  );
  return { path: rows[0]!.path, absolute: join(pipeline.dataFolder, rows[0]!.path) };
}

for (const version of sampledVersions) {
  test(`tables of all kinds of keys and types are equal while they are written to; what is not compared is named, PostgreSQL ${version}`, async () => {
    await using server = await startPostgres({ version });
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(`create extension hstore; create type mood as enum ('', 'ok'); create type pair as (a int, b text);
    create table types (id bigint primary key, i2 smallint, b bool, t text, v varchar(9), c char(5), f4 real, f8 float8,
      n numeric, n2 numeric(12,2), n3 numeric(3,3), d date, ts timestamp, tz timestamptz, ti time, tt timetz, iv interval, u uuid,
      bin bytea, j json, jb jsonb, m mood, mo money, ip inet, net cidr, r int4range, mr int4multirange, h hstore, p pair,
      pt point, bits varbit, x xml, oid oid, ta text[], na numeric[], fa float8[], ca char(3)[], ba bytea[], bo bool[],
      tza timestamptz[], ia int[], ma money[], iva interval[]);
    create table uuids (id uuid primary key, v text);
    create table pairs (a text, b int, v text, primary key (b, a));
    create table keyless (v int, t text);
    create table fulls (v float8, t text); alter table fulls replica identity full;
    create table parts (id int primary key, v text) partition by range (id);
    create table parts_1 partition of parts for values from (-1000) to (100);
    create table parts_2 partition of parts for values from (100) to (1000);
    create table "Odd ""name" (id int primary key, "a.b" text, "A.b" int);
    create table inserted (id int primary key)`);
    const insert = async (from: number) => {
      await client.query(`insert into types values
      (${from}, 1, true, 'a', 'b', 'c', 1.1, 0.1, 1.50, 12.50, 0.5, '2024-01-02', '2024-01-02 03:04:05.600', '2024-01-02 03:04:05.6+02',
        '12:34:56.70', '12:34:56+02', '1 mon 2 days 03:00', gen_random_uuid(), '\\x00ff', '{"a":  1}', '{"a": 1}', 'ok', 12.5,
        '10.0.0.1', '10.0.0.0/8', '[1,2]', '{[1,2],[5,6]}', 'a=>1', row(1, 'x'), '(1,2)', '101', '<a/>', 4000000000,
        '{a,NULL,"b c",""}', '{1.50,NULL,3}', '{0.1,NULL,-0}', '{a,NULL,""}', '{"\\\\x00",NULL}', '{t,f,NULL}',
        '{"2024-01-02 03:04:05+00"}', '{1,2}', '{1.5,2}', '{"1 day",NULL}')`);
      await client.query(`insert into types (id, b, t, v, c, f4, f8, n, n2, n3, d, ts, tz, ti, iv, bin, j, jb, m, mo, ip, r, mr, h, bits, x, oid,
        ta, na, fa, ca, ba, bo, tza, ia, ma, iva) values
      (${from + 1}, false, '', '', '', 'NaN', '-0', 'NaN', 'NaN', -0.05, 'infinity', 'infinity', '-infinity', '24:00', '1 year', '', 'null',
        '[]', '', -0.01, '::1', 'empty', '{}', '', '', '', 0,
        '{}', '{NaN,1.50}', '{{1,2},{3,4}}', '{}', '{}', '{}', '{infinity}', '[0:1]={1,2}', '{}', '{}')`);
      await client.query(`insert into types (id, t, f4, f8, n, n2, n3, d, ts, tz, iv, p, na, fa, ca) values
      (${from + 2}, E'\\u00fc|,:''"\\n', 1e-45, 1e23, 1e30, 0, 0, '0044-03-15 BC', '20000-01-01', '0001-01-01 00:00:00+00', '-1 day',
        row(null, null), '{1e30,0.10}', '{Infinity,NaN}', '{abc}'),
      (${from + 3}, null, 'Infinity', '-Infinity', 0.1000000000000000000001, null, null, null, null, null, null, null, null, '[5:5]={1.5}', '{{a},{b}}')`);
      await client.query(
        `insert into uuids select gen_random_uuid(), repeat('x', n % 50) from generate_series(1, 2000) n`,
      );
      await client.query(
        `insert into pairs select 'k' || n % 7, n + ${from} * 1000, n::text from generate_series(1, 3000) n`,
      );
      await client.query(`insert into keyless select n % 10, null from generate_series(1, 500) n`);
      await client.query(`insert into fulls values ('-0', 'a'), ('0', 'a'), (1, null), (1, null)`);
      await client.query(
        `insert into parts select n, 'p' from generate_series(${from} * 40 - 99, ${from} * 40 - 60) n`,
      );
      await client.query(`insert into "Odd ""name" values (${from}, 'x', ${from}), (${-from}, null, null)`);
    };
    await insert(1);
    await using pipeline = await makePipeline({
      source: database.config,
      schemas: `{ public: { types: {}, uuids: {}, pairs: {}, keyless: {}, fulls: {}, parts: {}, 'Odd "name': {}, inserted: { mode: stream-only } } }`,
    });
    await using worker = await following(pipeline);
    assert.ok(worker.running);
    await insert(11);
    await client.query(`update pairs set v = 'changed', b = b + 1000000 where b % 3 = 0; delete from pairs where b % 5 = 1;
    update uuids set v = 'y' where v = ''; delete from fulls where v = 1 and ctid in (select min(ctid) from fulls where v = 1);
    update fulls set t = 'b' where v = 0; update parts set v = 'q' where id % 2 = 0; update types set t = t || '!' where id > 10`);
    const document = await verified(pipeline);
    assert.deepEqual(
      document.tables.map(({ name, result, reason }) => [name, result, reason]).sort(),
      [
        ['Odd "name', "equal", null],
        ["fulls", "equal", null],
        ["inserted", "not-compared", "its mode is stream-only: the mirror is not to have all of its rows"],
        ["keyless", "equal", null],
        ["pairs", "equal", null],
        ["parts", "equal", null],
        ["types", "equal", null],
        ["uuids", "equal", null],
      ],
      JSON.stringify(document, null, 1),
    );
    const of = (name: string) => document.tables.find((table) => table.name === name)!;
    assert.deepEqual([of("types").sourceRows, of("types").mirrorRows, of("types").columns.notCompared], [8, 8, []]);
    assert.deepEqual(
      [of("types").comparedBy, of("uuids").comparedBy, of("pairs").comparedBy],
      ["key range", "checksum", "checksum"],
    );
    // Updates that nobody can see are seen here.
    await client.query("update keyless set v = 11 where ctid = (select min(ctid) from keyless)");
    const [keyless] = (await verified(pipeline, "keyless")).tables;
    assert.partialDeepStrictEqual(keyless, { result: "different", missing: 1, extra: 1, different: 0, rows: [] });
    const wrong = await pipeline.run(["verify", "publik.types"]);
    assert.deepEqual([wrong.code, wrong.stderr.includes('"publik.types" is no table of this group')], [2, true]);
  });
}

test("a row that is gone, doubled, changed or skipped in the files is found by its key and read again; a damaged file is replaced", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table t (id int primary key, v text)");
  await client.query("insert into t select n * 3, 'v' || n from generate_series(1, 20000) n");
  await using pipeline = await makePipeline({ source: database.config });
  await using worker = await following(pipeline);
  assert.ok(worker.running);
  await client.query("update t set v = 'changed' where id <= 30; delete from t where id between 31 and 60");
  assert.equal((await verified(pipeline)).equal, true);
  await rewrite(
    pipeline,
    client,
    "copy",
    `SELECT * REPLACE (CASE id WHEN 900 THEN 'tampered' ELSE v END AS v) FROM d WHERE id <> 300
     UNION ALL FROM d WHERE id = 600 UNION ALL SELECT * REPLACE (7000001 AS id) FROM d WHERE id = 600`,
  );
  await rewrite(pipeline, client, "stream", "FROM d WHERE id <> 3 AND id <> 33");
  const [found] = (await verified(pipeline)).tables;
  assert.ok(found!.listedRows < 4000, `${found!.listedRows} rows were listed`);
  assert.deepEqual(found!.rows.map(({ kind, key }) => `${kind} ${key.id}`).sort(), [
    "different 3",
    "different 600",
    "different 900",
    "extra 33",
    "extra 7000001",
    "missing 300",
  ]);
  assert.deepEqual(found!.damagedFiles, []);
  const [repaired] = (await verified(pipeline, "--repair")).tables;
  assert.deepEqual(repaired!.repaired, { rowsRead: 4, rowsDeleted: 2, removedFiles: [] });
  assert.equal((await verified(pipeline, "--files")).equal, true);

  const { path, absolute } = await largestFile(pipeline, client, "copy");
  const bytes = await readFile(absolute);
  bytes[bytes.length >> 1]! ^= 1;
  await writeFile(absolute, bytes);
  const [damaged] = (await verified(pipeline)).tables;
  assert.equal(damaged!.result, "different");
  assert.deepEqual(
    damaged!.damagedFiles.map((file) => file.path),
    [path],
  );
  assert.match(damaged!.damagedFiles[0]!.what, /^its checksum is crc32:[0-9a-f]{8} instead of/);
  const [mended] = (await verified(pipeline, "--repair")).tables;
  assert.deepEqual(mended!.repaired?.removedFiles, [path]);
  assert.equal((await verified(pipeline, "--files")).equal, true);
  const { rows } = await client.query("select count(*)::int as listed from _pg_flo.files where path = $1", [path]);
  assert.deepEqual(rows, [{ listed: 0 }]);
});

test("workers verify by themselves; status tells what they found, and what a repair mended", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(
    "create table t (id int primary key, v text); insert into t select n, 'v' from generate_series(1, 100) n",
  );
  await using pipeline = await makePipeline({ source: database.config });
  await writeFile(pipeline.config, `${await readFile(pipeline.config, "utf8")}\nverify: { every: 1s }\n`);
  await using worker = pipeline.spawn(["replicate"]);
  const found = async (result: string) => {
    for (let tries = 0; ; tries++, await sleep(100)) {
      const known = await client.query("select to_regclass('_pg_flo.verifications') is not null as there");
      const { rows } = known.rows[0].there
        ? await client.query("select differing_rows::int as rows from _pg_flo.verifications where result = $1", [
            result,
          ])
        : { rows: [] };
      if (rows.length > 0) return rows[0].rows as number;
      assert.ok(worker.running && tries < 600, worker.stderr);
    }
  };
  assert.equal(await found("equal"), 0);
  await client.query("update t set v = 'changed' where id <= 3");
  assert.equal((await verified(pipeline)).equal, true);
  await client.query("delete from _pg_flo.files where kind = 'stream'");
  assert.equal(await found("different"), 3);
  const { tables, notes } = await pipeline.json<{ tables: { verified: unknown }[]; notes: string[] }>(["status"]);
  assert.partialDeepStrictEqual(tables[0]!.verified, { result: "different", differingRows: 3 });
  assert.match(notes.join(), /public\.t differed from the source at .*: run pg-flo verify --repair/);
  assert.deepEqual((await verified(pipeline, "--repair")).tables[0]!.repaired?.rowsRead, 3);
  assert.equal(await found("equal"), 0);
});
