// What the chaos of workers is about: one large table, many small ones, and a partitioned one, written to all the time.

import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { assertManifest } from "./manifest-check.ts";
import { type Mirror, type MirrorOptions, openMirror } from "./mirror-sql.ts";
import type { TestDatabase } from "./postgres.ts";

export interface TablesOptions {
  readonly rows: number;
  readonly small: number;
  readonly partitions: number;
}

/** Makes and fills them. Gives their names. */
export async function makeChaosTables(client: Client, { rows, small, partitions }: TablesOptions): Promise<string[]> {
  await client.query(`create table large (id bigint primary key, n int not null default 0, x text, doc text);
    insert into large select g, 0, md5(g::text), case when g % 500 = 0 then repeat(md5(g::text), 100) end
      from generate_series(1, ${rows}) g;
    create table parted (id int primary key, x text) partition by range (id);
    create table plain (n int, x text)`);
  const width = 1000;
  for (let number = 0; number < partitions; number++) {
    const from = number * width;
    const bounds = number === partitions - 1 ? "default" : `for values from (${from}) to (${from + width})`;
    await client.query(`create table parted_${number} partition of parted ${bounds}`);
  }
  await client.query(`insert into parted select g, 'p' from generate_series(0, ${partitions * 200}) g`);
  for (let number = 0; number < small; number++) {
    await client.query(`create table small_${number} (id int primary key, x text);
      insert into small_${number} select g, 'small' from generate_series(1, ${number % 20}) g`);
  }
  return ["large", "parted", "plain", ...Array.from({ length: small }, (_, number) => `small_${number}`)];
}

/** Writes over connections of its own until the signal. Gives the number of transactions. */
export async function writeAll(
  database: TestDatabase,
  { rows, small, partitions }: TablesOptions,
  signal: AbortSignal,
): Promise<number> {
  let count = 0;
  const write = async (writer: number): Promise<void> => {
    const client = await database.connect();
    for (let step = writer; !signal.aborted; step += 2, count++) {
      const at = 1 + ((step * 7919) % rows);
      await client.query(`begin;
        update large set n = n + 1 where id between ${at} and ${at + 20} and id % 2 = ${writer};
        update large set id = -id where id in (${at * 2 + writer}, ${-(at * 2 + writer)});
        insert into large (id, x) values (${1_000_000_000 + step}, 'new');
        delete from large where id = ${1_000_000_000 + step - 40};
        savepoint gone; update large set x = 'gone' where id between ${at} and ${at + 5} and id % 2 = ${writer}; rollback to gone;
        update parted set id = id + ${partitions * 1000} where id = ${(step * 13) % (partitions * 200)};
        insert into plain values (${step}, 'one'), (${step}, 'one');
        insert into small_${step % small} values (${1000 + step}, 'new');
        update small_${(step * 3) % small} set x = 'w' || ${step} where id % 2 = ${writer};
        commit`);
      await sleep(5);
    }
  };
  await Promise.all([write(0), write(1)]);
  return count;
}

const SLICE_ROWS = 1_000_000;

/** Row by row, also of tables that are too large or too many to be compared one by one. */
export async function compareChaosTables(options: MirrorOptions, sizes: TablesOptions): Promise<void> {
  await using mirror = await openMirror(options);
  await assertManifest(mirror.files, options.root);
  for (const name of ["parted", "plain"]) await mirror.compare({ name });
  await mirror.state({ name: "large" }, "large");
  const { rows } = await options.source.query<{ from: string; to: string }>(
    `select least(min(id), 0) as from, max(id) as to from large`,
  );
  const counted: bigint[] = [];
  for (let from = Number(rows[0]!.from); from <= Number(rows[0]!.to); from += SLICE_ROWS) {
    counted.push(await compareSlice(mirror, options.source, from));
    if (from > sizes.rows && from < 1_000_000_000 - SLICE_ROWS) from = 1_000_000_000 - SLICE_ROWS; // nobody is between
  }
  const [all] = await mirror.rows("SELECT count(*) AS n FROM large");
  assert.equal(
    counted.reduce((sum, n) => sum + n, 0n),
    all!.n,
    "rows of the mirror outside of every slice",
  );
  await compareSmall(mirror, options, sizes.small);
}

async function compareSlice(mirror: Mirror, source: Client, from: number): Promise<bigint> {
  const where = `id >= ${from} and id < ${from + SLICE_ROWS}`;
  await withRows(mirror, source, `select id, n, x, md5(doc) from large where ${where}`, async (expected) => {
    await same(
      mirror,
      `SELECT c0::BIGINT, c1::INT, c2, c3 FROM ${expected}`,
      `SELECT id, n, x, md5(doc) FROM large WHERE ${where}`,
    );
  });
  const [found] = await mirror.rows(`SELECT count(*) AS n FROM large WHERE ${where}`);
  return found!.n as bigint;
}

/** Nothing is deleted from them and no key changes: the newest image of a row is the row. */
async function compareSmall(mirror: Mirror, { root, source }: MirrorOptions, count: number): Promise<void> {
  const small = mirror.files.filter(({ table }) => table.startsWith("small_"));
  const read = (kind: "copy" | "stream", lsn: string): string[] => {
    const paths = small.filter((file) => file.kind === kind).map(({ path }) => `'${join(root, path)}'`);
    if (paths.length === 0) return [];
    return [
      `SELECT regexp_extract(filename, '\\.(small_[0-9]+)/', 1) AS t, id, x, ${lsn} AS lsn
       FROM read_parquet([${paths.join(", ")}], union_by_name = true, filename = true, hive_partitioning = false)`,
    ];
  };
  const rows = [...read("copy", "0"), ...read("stream", "_pg_flo_lsn")].join(" UNION ALL ");
  const newest = `SELECT t, id, arg_max(x, lsn) FROM (${rows}) GROUP BY t, id`;
  const names = Array.from({ length: count }, (_, number) => `small_${number}`);
  const all = names.map((name) => `select '${name}', id, x from ${name}`).join(" union all ");
  await withRows(mirror, source, all, (expected) => same(mirror, `SELECT c0, c1::INT, c2 FROM ${expected}`, newest));
}

/** Rows of the source as a relation of DuckDB: columns c0 to c3, all of them texts. */
async function withRows(
  mirror: Mirror,
  source: Client,
  sql: string,
  use: (expected: string) => Promise<void>,
): Promise<void> {
  const path = join(tmpdir(), `pg-flo-slice-${process.pid}-${Math.random()}.csv`);
  await source.query(`copy (select * from (${sql}) s) to '${path}' (format csv, null '\\N', force_quote *)`);
  try {
    const [first] = await source.query(`select * from (${sql}) s limit 0`).then(({ fields }) => [fields.length]);
    const columns = Array.from({ length: first! }, (_, at) => `'c${at}': 'VARCHAR'`).join(", ");
    const csv = `read_csv('${path}', auto_detect = false, header = false, delim = ',', quote = '"', escape = '"', nullstr = '\\N', allow_quoted_nulls = false, columns = {${columns}})`;
    await mirror.rows(`CREATE OR REPLACE TABLE expected_rows AS SELECT * FROM ${csv}`);
    await use("expected_rows");
  } finally {
    await rm(path, { force: true });
  }
}

async function same(mirror: Mirror, expected: string, mirrored: string): Promise<void> {
  for (const [one, other] of [
    [expected, mirrored],
    [mirrored, expected],
  ]) {
    const found = await mirror.rows(`SELECT * FROM ((${one}) EXCEPT ALL (${other})) LIMIT 3`);
    const text = JSON.stringify(found, (_, each) => (typeof each === "bigint" ? String(each) : each));
    assert.deepEqual(found, [], `source and mirror differ: ${text}`);
  }
}
