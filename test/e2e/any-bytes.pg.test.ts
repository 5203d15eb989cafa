// Bytes that are no UTF-8 inside of other types, and "char" of any byte: through copy and stream, as binary and as text
// (aclitem has no binary form: with an array of it the whole stream comes as text). Nothing may become U+FFFD without its
// bytes beside it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sampledVersions } from "../support/long-form.ts";
import { fileRows } from "../support/mirrored-rows.ts";
import type { Value } from "../support/parquet-readers.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun } from "../support/replication-run.ts";

type Row = Record<string, Value>;
const modes = { binary: "", text: ", acl aclitem[]" };

describe("bytes that are no UTF-8", { concurrency: 2 }, () => {
  for (const version of sampledVersions) {
    test(`ranges, hstore, text search and lists of them keep their bytes in SQL_ASCII, on PostgreSQL ${version}`, async () => {
      await using server = await startPostgres({ version });
      for (const [group, column] of Object.entries(modes)) await composed(server, group, column);
    });

    test(`"char" of any byte is what it is as binary and as text, on PostgreSQL ${version}`, async () => {
      await using server = await startPostgres({ version });
      for (const [group, column] of Object.entries(modes)) await anyChar(server, group, column);
    });
  }

  test('a "char" that comes as a character of another encoding is NULL with that character beside it', async () => {
    await using server = await startPostgres({ version: 14 });
    await using database = await server.createDatabase(undefined, "LATIN1");
    const { client } = database;
    await client.query(`create table t (id int primary key, c "char", cs "char"[], acl aclitem[])`);
    await using run = await makeRun({ source: database.config });
    await run.catchUp();
    await client.query(
      `insert into t values (1, (-23)::int4::"char", array['x', (-23)::int4::"char"]), (2, 'a', '{b}')`,
    );
    await run.catchUp();
    const rows = await fileRows(run.root, "app", "public.t", "stream", "id");
    assert.deepEqual(shown(rows, ["c", "cs", "_pg_flo_exact"]), [
      { c: null, cs: ["x", null], _pg_flo_exact: JSON.stringify({ c: "é", cs: "{x,é}" }) },
      { c: "a", cs: ["b"], _pg_flo_exact: null },
    ]);
  });
});

const shown = (rows: readonly Row[], columns: readonly string[]): Row[] =>
  rows.map((row) => Object.fromEntries(columns.map((name) => [name, row[name]!])));

/** E9 is é in LATIN1 and no UTF-8; C3 A9 is é in UTF-8. */
async function composed(server: TestServer, group: string, moreColumns: string): Promise<void> {
  await using database = await server.createDatabase(undefined, "SQL_ASCII");
  const { client } = database;
  await client.query("set client_encoding = 'SQL_ASCII'; create extension hstore");
  await client.query(`create type textrange as range (subtype = text);
    create table t (id int primary key, r textrange, h hstore, q tsquery, v tsvector, c "char", rs textrange[], hs hstore[]${moreColumns})`);
  const values = (
    id: number,
    e: string,
    char: string,
  ) => `(${id}, textrange(E'a"${e}', E'b${e}'), hstore(E'k${e}', 'v'),
    E'''${e}'' & b'::tsquery, E'''${e}'':1'::tsvector, ${char}, array[textrange('a', E'b${e}')], array[hstore('k', E'${e}')])`;
  const insert = (id: number) =>
    client.query(
      `insert into t values ${values(id, "\\xe9", '(-23)::int4::"char"')}, ${values(id + 1, "\\xc3\\xa9", "'x'")}`,
    );
  await insert(1);
  await using run = await makeRun({ source: database.config, group });
  await run.catchUp();
  await insert(3);
  await run.catchUp();
  const texts = (e: string, c: string): Row => ({
    ...{ r: `["a""${e}",b${e})`, h: `{"k${e}": "v"}`, q: `'${e}' & 'b'`, v: `'${e}':1`, c },
    ...{ rs: [`[a,b${e})`], hs: [`{"k": "${e}"}`] },
  });
  const exact = {
    r: '["a""\u00e9",b\u00e9)',
    h: '{"k\u00e9": "v"}',
    q: "'\u00e9' & 'b'",
    v: "'\u00e9':1",
    rs: '{"[a,b\u00e9)"}',
    hs: '{"\\"k\\"=>\\"\u00e9\\""}',
  };
  const hex = (text: string) => `\\x${Buffer.from(text, "latin1").toString("hex")}`;
  const hexes = Object.fromEntries(Object.entries(exact).map(([name, text]) => [name, hex(text)]));
  const marked: Row = { ...texts("\ufffd", "\\351"), _pg_flo_exact: JSON.stringify(hexes) };
  const whole: Row = { ...texts("é", "x"), _pg_flo_exact: null };
  for (const [kind, first] of [["copy", 1] as const, ["stream", 3] as const]) {
    const rows = await fileRows(run.root, group, "public.t", kind, "id");
    const expected = [marked, whole].map((row, k) => ({ id: String(first + k), ...row }));
    assert.deepEqual(shown(rows, Object.keys(expected[0]!)), expected, `${group}, ${kind}`);
  }
}

/** Up to PostgreSQL 14 the text output of "char" is the byte itself, which UTF-8 databases send as it is. */
async function anyChar(server: TestServer, group: string, moreColumns: string): Promise<void> {
  const written = (byte: number): string => {
    if (byte === 0) return "";
    return byte < 128 ? String.fromCharCode(byte) : `\\${byte.toString(8)}`;
  };
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create type pair as (a "char", b text);
    create table t (id int primary key, c "char", cs "char"[], p pair${moreColumns})`);
  const insert = (from: number) =>
    client.query(`insert into t select ${from} + n, ch, array[ch, null, 'x'], row(ch, 'é')::pair
      from (select n, (case when n > 127 then n - 256 else n end)::int4::"char" as ch from generate_series(0, 255) n) s`);
  await insert(0);
  await using run = await makeRun({ source: database.config, group });
  await run.catchUp();
  await insert(1000);
  await run.catchUp();
  for (const [kind, first] of [["copy", 0] as const, ["stream", 1000] as const]) {
    const rows = await fileRows(run.root, group, "public.t", kind, "id");
    const expected = Array.from({ length: 256 }, (_, byte) => ({
      ...{ id: String(first + byte), c: written(byte), cs: [written(byte), null, "x"] },
      ...{ p: JSON.stringify({ a: written(byte), b: "é" }), _pg_flo_exact: null },
    }));
    assert.deepEqual(shown(rows, Object.keys(expected[0]!)), expected, `${group}, ${kind}`);
  }
}
