// Opening a mirror and writing results, on real files.
import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, readFile, stat, symlink } from "node:fs/promises";
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import { MirrorFiles } from "../../test/support/mirror-files.ts";
import { rowBatches } from "./duckdb.ts";
import { type Mirror, openMirror } from "./mirror.ts";
import type { MirrorTable } from "./mirror-table.ts";
import { type QueryFormat, writeResult } from "./output.ts";

const key = { kind: "key", columns: ["id"] } as const;

async function shop(files: MirrorFiles): Promise<MirrorTable> {
  files.version([
    ["id", "BIGINT"],
    ["price", "DECIMAL(38,18)"],
    ["at", "TIMESTAMP WITH TIME ZONE"],
    ["tags", "VARCHAR[]"],
    ["ratio", "DOUBLE"],
    ["name", "VARCHAR"],
  ]);
  const big = { id: "9223372036854775807", price: "12345678901234567890.123456789012345678", ratio: "'NaN'::DOUBLE" };
  await files.copy([
    { row: { id: "1", price: "0.1", ratio: "0.1", name: "'a, \"b\"'", tags: "['NaN', NULL]" } },
    { row: { ...big, at: "'2024-02-29 23:59:59.999999+00'", tags: "[]", name: "''" } },
  ]);
  await files.stream([
    {
      lsn: 100,
      op: "UPDATE",
      row: { id: "1", name: "'line' || chr(10) || chr(27) || '[2J'" },
      unchanged: ["price", "tags"],
    },
  ]);
  return files.table(key, { name: "items", position: 200n, cutLsn: 50n });
}

async function rowsOf(mirror: Mirror, sql: string): Promise<unknown[]> {
  const rows: unknown[] = [];
  for await (const batch of rowBatches(await mirror.query(sql))) rows.push(...batch);
  return rows;
}

async function textOf(mirror: Mirror, sql: string, format: QueryFormat): Promise<string> {
  const parts: Buffer[] = [];
  const stream = new Writable({
    write(part: Buffer, _encoding, done) {
      parts.push(Buffer.from(part));
      done();
    },
  });
  await writeResult(mirror, sql, format, { stream });
  return Buffer.concat(parts).toString(format === "parquet" ? "latin1" : "utf8");
}

test("a mirror has a view of the state and of the history for every table, also without naming the schema", async () => {
  await using files = await MirrorFiles.create();
  const table = await shop(files);
  await using mirror = await openMirror([table, { ...table, schema: 'Sa"les', name: "o.d d" }]);
  assert.deepEqual(await rowsOf(mirror, "SELECT count(*) FROM items"), [[2n]]);
  assert.deepEqual(await rowsOf(mirror, 'SELECT count(*) FROM public."ITEMS"; -- comment'), [[2n]]);
  assert.deepEqual(await rowsOf(mirror, 'SELECT count(*) FROM "Sa""les"."o.d d__changes"'), [[1n]]);
  const all = await rowsOf(mirror, "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL");
  assert.deepEqual(all, [
    ['Sa"les', "o.d d"],
    ['Sa"les', "o.d d__changes"],
    ["public", "items"],
    ["public", "items__changes"],
  ]);
});

test("a mirror opened at a position shows that state, and tells what it cannot show", async () => {
  await using files = await MirrorFiles.create();
  const table = await shop(files);
  await using before = await openMirror([table], { at: 60n });
  assert.deepEqual(await rowsOf(before, "SELECT count(*) FROM items WHERE name LIKE 'a%'"), [[1n]]);
  assert.deepEqual(before.notices, []);
  await using early = await openMirror([table], { at: 40n });
  assert.match(early.notices.join(), /public\.items: its copy was made at 0\/32, its state at 0\/28 is not known/);
  await using late = await openMirror([table], { at: 300n });
  assert.match(late.notices.join(), /durable up to 0\/C8/);
});

test("before the base that changes were folded into nothing is shown, and from it on everything", async () => {
  await using files = await MirrorFiles.create();
  const table = { ...(await shop(files)), baseLsn: 49n };
  await using early = await openMirror([table], { at: 48n });
  await assert.rejects(early.query("SELECT * FROM items"), {
    code: "QUERY_FAILED",
    message: /public\.items, state at 0\/30, its history begins at 0\/31: .*; ask for 0\/31 or later/,
  });
  await using base = await openMirror([table], { at: 49n });
  assert.deepEqual(base.notices, []);
  assert.equal((await rowsOf(base, "SELECT count(*) FROM items")).length, 1);
});

test("only one SELECT is run, and wrong SQL is told with DuckDB's words", async () => {
  await using files = await MirrorFiles.create();
  await using mirror = await openMirror([await shop(files)]);
  const target = join(files.folder, "stolen.parquet");
  for (const sql of [
    `COPY items TO '${target}'`,
    "SELECT 1; SELECT 2",
    "DROP VIEW items",
    "CREATE TABLE x (a INT)",
    "",
  ]) {
    await assert.rejects(mirror.query(sql), { code: "QUERY_FAILED" }, sql);
  }
  await assert.rejects(mirror.query("SELECT nope FROM items"), /QUERY_FAILED.*nope/s);
  await assert.rejects(textOf(mirror, "SELECT name::INTEGER FROM items", "json"), { code: "QUERY_FAILED" });
  await assert.rejects(stat(target), { code: "ENOENT" });
});

test("a missing file is told with its table when the table is asked for, and not before", async () => {
  await using files = await MirrorFiles.create();
  const table = await shop(files);
  const gone = { ...table.files[0]!, path: join(files.folder, "gone.parquet") };
  await using mirror = await openMirror([table, { ...table, name: "broken", files: [gone] }]);
  assert.deepEqual(await rowsOf(mirror, "SELECT count(*) FROM items"), [[2n]]);
  await assert.rejects(mirror.query("SELECT * FROM broken"), /public\.broken.*gone\.parquet/s);
});

test("json has every digit, one object a line", async () => {
  await using files = await MirrorFiles.create();
  await using mirror = await openMirror([await shop(files)]);
  assert.equal(
    await textOf(mirror, "SELECT * FROM items ORDER BY id", "json"),
    '{"id":1,"price":0.100000000000000000,"at":null,"tags":["NaN",null],"ratio":null,"name":"line\\n\\u001B[2J"}\n' +
      '{"id":9223372036854775807,"price":12345678901234567890.123456789012345678,"at":"2024-02-29 23:59:59.999999+00","tags":[],"ratio":"NaN","name":""}\n',
  );
});

test("the table format is aligned, exact and safe for a terminal", async () => {
  await using files = await MirrorFiles.create();
  await using mirror = await openMirror([await shop(files)]);
  assert.equal(
    await textOf(mirror, "SELECT id, price, tags, name FROM items ORDER BY id", "table"),
    [
      "id                  | price                                   | tags        | name",
      "--------------------+-----------------------------------------+-------------+--------------",
      "1                   | 0.100000000000000000                    | [NaN, NULL] | line\\n\\x1b[2J",
      "9223372036854775807 | 12345678901234567890.123456789012345678 | []          |",
      "(2 rows)",
      "",
    ].join("\n"),
  );
  assert.equal(await textOf(mirror, "SELECT id FROM items WHERE false", "table"), "id\n--\n(0 rows)\n");
  assert.match(await textOf(mirror, "DESCRIBE items", "table"), /price\s+\| DECIMAL\(38,18\)/);
});

test("csv and parquet go to a stream or a file, and the spill folder is gone after closing", async () => {
  await using files = await MirrorFiles.create();
  const mirror = await openMirror([await shop(files)]);
  const csv = 'id,name\n1,"line\n\u001b[2J"\n9223372036854775807,""\n';
  const sql = "SELECT id, name FROM items ORDER BY id";
  assert.equal(await textOf(mirror, sql, "csv"), csv);
  await writeResult(mirror, sql, "csv", { file: join(files.folder, "out.csv") });
  assert.equal(await readFile(join(files.folder, "out.csv"), "utf8"), csv);
  await writeResult(mirror, sql, "json", { file: join(files.folder, "out.json") });
  assert.equal((await readFile(join(files.folder, "out.json"), "utf8")).split("\n").length, 3);
  assert.match(await textOf(mirror, sql, "parquet"), /^PAR1.*PAR1$/s);
  const out = join(files.folder, "out.parquet");
  await writeResult(mirror, sql, "parquet", { file: out });
  assert.deepEqual((await files.rows(`FROM '${out}'`)).length, 2);
  await mirror.close();
  await assert.rejects(readdir(mirror.folder), { code: "ENOENT" });
});

test("a result is never written over a file of the mirror", async () => {
  await using files = await MirrorFiles.create();
  const table = await shop(files);
  await using mirror = await openMirror([table]);
  const { path } = table.files[0]!;
  const link = join(files.folder, "link.parquet");
  await symlink(path, link);
  const before = await readFile(path);
  for (const format of ["json", "csv", "parquet", "table"] as const) {
    for (const file of [path, link]) {
      await assert.rejects(writeResult(mirror, "SELECT 1", format, { file }), /is a file of the mirror/);
    }
  }
  assert.deepEqual(await readFile(path), before);
});

test("folders with pattern characters or equal signs in their names are taken literally", async () => {
  await using files = await MirrorFiles.create();
  const table = await shop(files);
  const folder = join(files.folder, "a*[b]?=1");
  await mkdir(folder);
  const moved = await Promise.all(
    table.files.map(async (file, at) => {
      const path = join(folder, `${at}'.parquet`);
      await copyFile(file.path, path);
      return { ...file, path };
    }),
  );
  await using mirror = await openMirror([{ ...table, files: moved }]);
  assert.deepEqual(await rowsOf(mirror, "SELECT count(*) FROM items"), [[2n]]);
});

test("a result larger than the memory limit streams through", async () => {
  await using files = await MirrorFiles.create();
  await using mirror = await openMirror([await shop(files)], { settings: { memory_limit: "64MiB", threads: "1" } });
  let rowCount = 0;
  for await (const batch of rowBatches(await mirror.query("SELECT repeat('x', 200) FROM items, range(500000)"))) {
    rowCount += batch.length;
  }
  assert.equal(rowCount, 1_000_000);
});
