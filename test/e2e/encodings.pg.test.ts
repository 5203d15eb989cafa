// Databases that are not in UTF-8, from the command line to the files, through copy and stream.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sampledVersions } from "../support/long-form.ts";
import { fileRows } from "../support/mirrored-rows.ts";
import type { Value } from "../support/parquet-readers.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun } from "../support/replication-run.ts";

// aclitem has no binary form: with an array of it the whole stream comes as text.
describe("databases that are not in UTF-8", { concurrency: 2 }, () => {
  for (const version of sampledVersions) {
    test(`LATIN1 comes as UTF-8; in SQL_ASCII what is no UTF-8 is marked and kept, as binary and text, on PostgreSQL ${version}`, async () => {
      await using server = await startPostgres({ version });
      const all = [latin1(server), sqlAscii(server, "binary", ""), sqlAscii(server, "text", ", acl aclitem[]")];
      await Promise.allSettled(all); // none goes on after the test
      await Promise.all(all);
    });
  }
});

type Row = Record<string, Value>;
const shown = (rows: readonly Row[], columns: readonly string[]): Row[] =>
  rows.map((row) => Object.fromEntries(columns.map((name) => [name, row[name]!])));

async function latin1(server: TestServer): Promise<void> {
  const group = "latin1";
  await using database = await server.createDatabase(undefined, "LATIN1");
  const client = database.client;
  await client.query("create table t (id int primary key, v text, c char(5), a text[], j jsonb, x xml)");
  const insert = `insert into t values ($1, 'Größe ½', 'é', array['ÿ', 'a', null], '{"ä": "ö"}', '<a>é</a>')`;
  await client.query(insert, [1]);
  await using run = await makeRun({ source: database.config, group });
  await run.catchUp();
  await client.query(insert, [2]);
  await client.query("update t set v = 'naïve' where id = 1");
  await run.catchUp();
  const value = { v: "Größe ½", c: "é", a: ["ÿ", "a", null], j: '{"ä": "ö"}', x: "<a>é</a>", _pg_flo_exact: null };
  const columns = ["id", ...Object.keys(value)];
  const copied = await fileRows(run.root, group, "public.t", "copy", "id");
  assert.deepEqual(shown(copied, columns), [{ id: "1", ...value }]);
  const streamed = await fileRows(run.root, group, "public.t", "stream", "id");
  assert.deepEqual(shown(streamed, columns), [
    { id: "1", ...value, v: "naïve" },
    { id: "2", ...value },
  ]);
}

async function sqlAscii(server: TestServer, group: string, moreColumns: string): Promise<void> {
  await using database = await server.createDatabase(undefined, "SQL_ASCII");
  const client = database.client;
  await client.query("set client_encoding = 'SQL_ASCII'");
  await client.query(`create type pair as (n int, t text);
    create table t (id int primary key, v text, c char(5), a text[], j json, p pair, n numeric${moreColumns})`);
  // é is E9 in LATIN1, and C3 A9 in UTF-8.
  const insert = (id: number) => `insert into t values
    (${id}, E'ca\\xe9!', E'\\xe9', array['x', E'\\xe9'], E'{"a": "\\xe9"}', row(1, E'\\xe9'), 'NaN'),
    (${id + 1}, E'caf\\xc3\\xa9', 'a', array[E'\\xc3\\xa9'], '{}', row(2, E'\\xc3\\xa9'), 1),
    (${id + 2}, null, null, '[2:2]={b}', null, null, null)`;
  await client.query(insert(1));
  await using run = await makeRun({ source: database.config, group });
  await run.catchUp();
  await client.query(insert(4));
  await client.query(`update t set v = E'\\xff' where id = 2`);
  await run.catchUp();
  const bad = "\ufffd";
  const first: Row = {
    v: `ca${bad}!`,
    c: bad,
    a: ["x", bad],
    j: `{"a": "${bad}"}`,
    p: `{"n":1,"t":"${bad}"}`,
    n: null,
    _pg_flo_exact: JSON.stringify({
      v: "\\x6361e921",
      c: "\\xe9",
      a: `\\x${Buffer.from("{x,\u00e9}", "latin1").toString("hex")}`,
      j: `\\x${Buffer.from('{"a": "\u00e9"}', "latin1").toString("hex")}`,
      p: `\\x${Buffer.from('{"n":1,"t":"\u00e9"}', "latin1").toString("hex")}`,
      n: "NaN",
    }),
  };
  const second: Row = { v: "café", c: "a", a: ["é"], j: "{}", p: '{"n":2,"t":"é"}', n: "1000000000000000000" };
  const third: Row = { v: null, c: null, a: ["b"], j: null, p: null, n: null, _pg_flo_exact: '{"a":"[2:2]={b}"}' };
  const columns = ["id", ...Object.keys(first)];
  const copied = await fileRows(run.root, group, "public.t", "copy", "id");
  assert.deepEqual(shown(copied, columns), [
    { id: "1", ...first },
    { id: "2", ...second, _pg_flo_exact: null },
    { id: "3", ...third },
  ]);
  const streamed = await fileRows(run.root, group, "public.t", "stream", "id");
  assert.deepEqual(shown(streamed, columns), [
    { id: "2", ...second, v: bad, _pg_flo_exact: '{"v":"\\\\xff"}' },
    { id: "4", ...first },
    { id: "5", ...second, _pg_flo_exact: null },
    { id: "6", ...third },
  ]);
}
