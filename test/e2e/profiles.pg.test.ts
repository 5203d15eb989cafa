// How the config wants columns written, from the command line to the files, through copy and stream.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import type pg from "pg";
import { readTables, readTypes } from "../../src/postgres/catalog.ts";
import { planColumns } from "../../src/types/registry.ts";
import { expectedNative } from "../support/expected-native.ts";
import { fileRows } from "../support/mirrored-rows.ts";
import { queryDuckdb, type Value } from "../support/parquet-readers.ts";
import { makePipeline, replicate } from "../support/pipeline.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

const nestedSql = `
  create type point3 as (x float8, y float8, z float8, label text);
  create type part as (sku text, sizes int[], at timestamptz, places point3[]);
  create domain parts as part[];
  create table t (id int primary key, u uuid, us uuid[], ti time, j jsonb, i interval, is_ interval[], p part, ps parts,
    r numrange, rs tstzrange[], m int4multirange, pt point, pa path, po polygon, c circle, l line, b box, ls lseg)`;

const nestedRows = [
  `gen_random_uuid(), array[gen_random_uuid(), null], '12:34:56.789', '{"a": [1]}', '1 year 2 mons -3 days 04:05:06.7',
   array['-1 mon'::interval, null, '300 hours'],
   row('a"b', '{1,null,3}', '2024-02-29 12:00Z', array[row(1, 2, 'NaN', 'x,y')::point3, null, row(null, null, null, null)::point3])::part,
   array[row(null, '{}', null, '{}')::part, null, row('\\', null, 'infinity', null)::part]::parts,
   '[1.5,2)', array['(,2024-01-01 00:00+00]'::tstzrange, 'empty', null], '{[1,3),[5,8)}',
   '(1.5,-2)', '((0,0),(1,1))', '((0,0),(1,1),(2,0))', '<(1,2),3>', '{1,2,3}', '(2,2),(0,0)', '[(0,0),(1,1)]'`,
  `null, '{}', '24:00:00', 'null', 'infinity', '{}', null, '{}', '[NaN,NaN]', '{}', '{}',
   '(NaN,-Infinity)', '[(1,1)]', null, null, null, null, null`,
  `null, null, null, null, null, null, row(null, null, null, null)::part, null, 'empty', null, null, null, null, null, null, null, null, null`,
  `null, '[0:0]={00000000-0000-0000-0000-000000000000}', null, null, '00:00', '{{1 day}}',
   row('é', '{{1,2},{3,4}}', '0044-03-15 BC', '[5:5]={"(1,2,3,)"}')::part, null, '(,)', null, '{(,)}',
   null, null, null, null, null, null, null`,
];

test("the native profile holds what Postgres prints, through copy and stream", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("set timezone = 'UTC'");
  await client.query(nestedSql);
  const insert = (first: number) =>
    client.query(`insert into t values ${nestedRows.map((row, k) => `(${first + k}, ${row})`).join(", ")}`);
  await insert(1);
  await using pipeline = await makePipeline({ source: database.config });
  await writeFile(pipeline.config, `${await readFile(pipeline.config, "utf8")}\nprofile: native\n`);
  await replicate(pipeline, database);
  await insert(11);
  await replicate(pipeline, database);
  const expected = await expectedRows(client);
  for (const [kind, first] of [
    ["copy", 1],
    ["stream", 11],
  ] as const) {
    const rows = await fileRows(pipeline.dataFolder, "app", "public.t", kind, "id");
    assert.equal(rows.length, nestedRows.length);
    for (const [k, row] of rows.entries()) {
      const { exact, values } = expected.get(first + k)!;
      const { _pg_flo_exact: given, ...all } = row;
      const own = Object.entries(all).filter(([name]) => !/^(_pg_flo|_old_)/.test(name));
      assert.deepEqual(Object.fromEntries(own), values, `${kind}, row ${first + k}`);
      assert.deepEqual(given === null ? {} : JSON.parse(given as string), exact, `${kind}, exact of row ${first + k}`);
    }
  }
});

interface ExpectedRow {
  readonly values: Record<string, Value>;
  readonly exact: Record<string, string>;
}

/** By id, from the texts that the server prints. */
async function expectedRows(client: pg.Client): Promise<Map<number, ExpectedRow>> {
  const [table] = await readTables(client);
  const columns = table!.columns.map((column) => ({ ...column, writtenAs: "native" }));
  const plans = planColumns(columns, await readTypes(client));
  const texts = plans.map(({ source }) => `"${source.name}"::text`).join(", ");
  const { rows } = await client.query<(string | null)[]>({ text: `select ${texts} from t`, rowMode: "array" });
  return new Map(
    rows.map((row) => {
      const values: Record<string, Value> = {};
      const exact: Record<string, string> = {};
      for (const [k, { parquet, source }] of plans.entries()) {
        const expected = expectedNative(parquet, row[k]!);
        values[source.name] = expected.value;
        if (!expected.exact) exact[source.name] = row[k]!;
      }
      return [Number(row[0]), { values, exact }];
    }),
  );
}

test("a column's override holds in copy and stream, and a changed one makes its table be copied again", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table t (id int primary key, amount numeric, price numeric(12,2), prices numeric[], u uuid, v numeric);
    create table other (id int primary key);
    insert into t values (1, 12.3456, 0.10, '{0.5,1e-30}', '00000000-0000-0000-0000-000000000001', 1e30)`);
  const schemas = (types: string) => `{ public: { t: { types: ${types} }, other: {} } }`;
  const overrides = '{ amount: "decimal(20,4)", price: double, prices: double, u: native, v: string }';
  await using pipeline = await makePipeline({ source: database.config, schemas: schemas(overrides) });
  await replicate(pipeline, database);
  await client.query(`insert into t values (2, 0.00001, 'NaN', null, null, 0.10)`);
  await replicate(pipeline, database);
  const typesOf = async () => {
    const path = `${pipeline.dataFolder}/app/public.t/copy/*.parquet`;
    const [, types] = await queryDuckdb(`describe select amount, price, prices, u, v from read_parquet('${path}')`);
    return types!.values;
  };
  assert.deepEqual(await typesOf(), ["DECIMAL(20,4)", "DOUBLE", "DOUBLE[]", "UUID", "VARCHAR"]);
  const [copied] = await fileRows(pipeline.dataFolder, "app", "public.t", "copy", "id");
  assert.deepEqual(copied, {
    ...{ id: "1", amount: "123456", price: "0.1", prices: ["0.5", "1e-30"], u: `x${"0".repeat(31)}1` },
    ...{ v: `1${"0".repeat(30)}`, _pg_flo_exact: null },
  });
  const [streamed] = await fileRows(pipeline.dataFolder, "app", "public.t", "stream", "id");
  const { amount, price, v, _pg_flo_exact: exact } = streamed!;
  assert.deepEqual(
    { amount, price, v, exact },
    { amount: null, price: "NaN", v: "0.10", exact: '{"amount":"0.00001"}' },
  );
  const text = await readFile(pipeline.config, "utf8");
  await writeFile(pipeline.config, text.replace(schemas(overrides), schemas("{ amount: string }")));
  await replicate(pipeline, database);
  assert.deepEqual(await typesOf(), ["VARCHAR", "DECIMAL(12,2)", "DECIMAL(38,18)[]", "VARCHAR", "DECIMAL(38,18)"]);
  const { rows } = await client.query("select table_name, generation from _pg_flo.tables order by table_name");
  assert.equal(Number(rows[0].generation), 1, "the other table is not copied again");
  assert.ok(Number(rows[1].generation) > 1);
});

test("query gives structs, maps and overrides of the newest rows, with a key and without one", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  const columns = "p point, r int4range, h hstore, c pair, i interval, big text, n numeric, s numeric";
  await client.query(`create extension hstore; create type pair as (a int, b text);
    create table k (id int primary key, ${columns}); create table f (${columns}); alter table f replica identity full;
    alter table k alter big set storage external; alter table f alter big set storage external`);
  const values = "'(1,2)', '[1,5)', 'a=>1, b=>NULL', row(1, 'x')::pair, '1 day 02:00', repeat('x', 9000), 0.5, 1e30";
  await client.query(`insert into k select g, ${values} from generate_series(1, 3) g;
    insert into f select ${values} from generate_series(1, 3) g`);
  const types = "{ types: { n: double, s: string } }";
  const schemas = `{ public: { k: ${types}, f: ${types} } }`;
  await using pipeline = await makePipeline({ source: database.config, schemas });
  await writeFile(pipeline.config, `${await readFile(pipeline.config, "utf8")}\nprofile: native\n`);
  await replicate(pipeline, database);
  await client.query(`update k set p = '(7,7)', h = 'c=>3' where id = 2; delete from k where id = 3;
    update f set r = 'empty' where ctid = (select min(ctid) from f);
    delete from f where ctid = (select max(ctid) from f where r <> 'empty')`);
  await replicate(pipeline, database);
  const rows = async (sql: string) => {
    const { code, stdout, stderr } = await pipeline.run(["query", "--json", sql]);
    assert.equal(code, 0, stderr);
    return stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  };
  const same = { l: 9000, n: 0.5, s: `1${"0".repeat(30)}`, i: { months: 0, days: 1, micros: 7200000000 } };
  const span = { lower: 1, upper: 5, lower_inc: true, upper_inc: false, empty: false };
  const none = { lower: null, upper: null, lower_inc: false, upper_inc: false, empty: true };
  const list = "p, r, h, c.b as b, i, length(big) as l, n, s";
  assert.deepEqual(await rows(`select id, ${list} from k order by id`), [
    { id: 1, p: { x: 1, y: 2 }, r: span, h: { a: "1", b: null }, b: "x", ...same },
    { id: 2, p: { x: 7, y: 7 }, r: span, h: { c: "3" }, b: "x", ...same },
  ]);
  assert.deepEqual(await rows(`select ${list} from f order by r.empty`), [
    { p: { x: 1, y: 2 }, r: span, h: { a: "1", b: null }, b: "x", ...same },
    { p: { x: 1, y: 2 }, r: none, h: { a: "1", b: null }, b: "x", ...same },
  ]);
});

test("an override that a column's type does not allow is refused, with what is allowed", async () => {
  await using database = await server.createDatabase();
  await database.client.query("create table t (id int primary key, v text, n numeric)");
  const schemas = "{ public: { t: { types: { v: double, n: double, missing: string } } } }";
  await using pipeline = await makePipeline({ source: database.config, schemas });
  const { code, stdout } = await pipeline.run(["check", "--json"]);
  assert.equal(code, 1);
  const { findings } = JSON.parse(stdout) as { findings: { severity: string; message: string }[] };
  assert.deepEqual(
    findings.filter(({ severity }) => severity === "error").map(({ message }) => message),
    [
      "types names missing, which is not a mirrored column",
      "types says double for column v of type text, allowed is string, portable or native",
    ],
  );
});

test("bloom filters are in the files of copy and stream, for the columns that the config names", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table t (id int primary key, u uuid, f float8);
    insert into t select i, md5(i::text)::uuid, i from generate_series(1, 1000) i`);
  const wrong = "{ public: { t: { bloom_filter: [id, f, gone] } } }";
  await using pipeline = await makePipeline({ source: database.config, schemas: wrong });
  const refused = JSON.parse((await pipeline.run(["check", "--json"])).stdout) as { findings: { message: string }[] };
  const messages = refused.findings.map(({ message }) => message);
  assert.ok(messages.includes("bloom_filter names column f, whose type double precision cannot have one"));
  assert.ok(messages.includes("bloom_filter names gone, which is not a mirrored column"));
  const text = await readFile(pipeline.config, "utf8");
  await writeFile(pipeline.config, text.replace(wrong, "{ public: { t: { bloom_filter: [id, u] } } }"));
  await replicate(pipeline, database);
  await client.query("insert into t select i, md5(i::text)::uuid, i from generate_series(1001, 2000) i");
  await replicate(pipeline, database);
  for (const kind of ["copy", "stream"]) {
    const path = `${pipeline.dataFolder}/app/public.t/${kind}/**/*.parquet`;
    const [names, filters] = await queryDuckdb(
      `select path_in_schema, bool_or(bloom_filter_offset is not null) as has from parquet_metadata('${path}')
       where path_in_schema in ('id', 'u', 'f') group by 1 order by 1`,
    );
    assert.deepEqual(names!.values, ["f", "id", "u"]);
    assert.deepEqual(filters!.values, ["f", "t", "t"]);
  }
});
