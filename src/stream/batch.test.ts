// Files of a batch, written to a real folder and read back by readers that are not ours.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { makeTestFolder, type TestFolder } from "../../test/support/folder.ts";
import { type Columns, parquetScan, queryDuckdb, readEverywhere } from "../../test/support/parquet-readers.ts";
import { feed, lsnOf, message, relationOf, type Tuple, tableOf, UNCHANGED } from "../../test/support/stream-log.ts";
import { pgType, sourceColumn } from "../../test/support/table-files.ts";
import { PgFloError } from "../base/errors.ts";
import { openLocalStorage } from "../storage/local.ts";
import type { Storage } from "../storage/storage.ts";
import { Batch, type FinishedFile } from "./batch.ts";
import { ChangeReader } from "./change-reader.ts";
import { Consolidator } from "./consolidate.ts";
import type { StreamTable } from "./stream-table.ts";

const types = new Map([1009, 1007].map((oid) => [oid, pgType(oid, { elementOid: oid === 1009 ? 25 : 23 })]));
const columns = [sourceColumn("id", 1, 20), sourceColumn("Doc.x", 3, 25), sourceColumn("tags", 4, 1009)];
const docs = tableOf(1, columns, { kind: "key", columns: ["id"] }, types);
const whole = tableOf(2, columns, { kind: "full", columns: ["id"] }, types);
const loose = tableOf(3, columns, { kind: "none" }, types);

/** 2025-05-08 06:13:20 UTC, which every message's commit time is. */
const COMMIT_TIME_US = "1746684800000000";

interface Writing {
  readonly batch: Batch;
  readonly reader: ChangeReader;
  transaction(lsn: bigint, changes: readonly (readonly number[])[]): void;
}

function writing(storage: Storage, tables: readonly StreamTable[], fileSizeBytes = 1 << 30): Writing {
  const batch = new Batch({ group: "app", name: "1-2-00000003", storage, fileSizeBytes, compression: "zstd" });
  const consolidator = new Consolidator();
  const reader = new ChangeReader(new Map(tables.map((table) => [table.oid, table])), lsnOf(0), {
    committed: ({ store, commitLsn, xid, commitTimeUs }) => {
      batch.beginTransaction(commitLsn, xid, commitTimeUs);
      consolidator.consolidate(store, batch);
    },
    reached: () => {},
    halted: ({ reason }) => assert.fail(reason),
  });
  feed(reader, tables.map(relationOf));
  const transaction: Writing["transaction"] = (lsn, changes) =>
    feed(reader, [message.begin(lsn, Number(lsn) + 3_000_000_000), ...changes, message.commit(lsn)]);
  return { batch, reader, transaction };
}

async function finish({ batch, reader }: Writing): Promise<FinishedFile[]> {
  await batch.encodePending(reader.arena);
  return batch.finish();
}

async function read(folder: TestFolder, { path }: FinishedFile): Promise<Columns> {
  return readEverywhere(folder, "read.parquet", new Uint8Array(await readFile(join(folder.path, path))));
}

/** Rows as objects without NULLs. */
function rowsOf(file: Columns): Record<string, unknown>[] {
  return file[0]!.values.map((_, row) =>
    Object.fromEntries(file.map(({ name, values }) => [name, values[row]]).filter(([, value]) => value !== null)),
  );
}

async function filesIn(folder: TestFolder): Promise<string[]> {
  const entries = await readdir(folder.path, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}

const row = (id: number, doc: Tuple[0], tags: Tuple[0] = "{a,NULL}"): Tuple => [String(id), doc, tags];

test("a stream file has the contract's columns, by name, type and order", async () => {
  await using folder = await makeTestFolder();
  const work = writing(openLocalStorage(folder.path), [docs, whole, loose]);
  work.transaction(
    20n,
    [1, 2, 3].map((oid) => message.insert(oid, row(1, "x"))),
  );
  const own = [
    ["id", "BIGINT"],
    ["Doc_x", "VARCHAR"],
    ["tags", "VARCHAR[]"],
    ["_pg_flo_operation", "VARCHAR"],
    ["_pg_flo_lsn", "BIGINT"],
    ["_pg_flo_sequence", "BIGINT"],
    ["_pg_flo_xid", "BIGINT"],
    ["_pg_flo_timestamp", "TIMESTAMP WITH TIME ZONE"],
    ["_pg_flo_schema", "VARCHAR"],
    ["_pg_flo_table", "VARCHAR"],
    ["_pg_flo_unchanged", "VARCHAR[]"],
    ["_pg_flo_exact", "VARCHAR"],
  ];
  const old = own.slice(0, 3).map(([name, type]) => [`_old_${name}`, type]);
  const expected = new Map([
    [docs, [...own, old[0]]],
    [whole, [...own, ...old]],
    [loose, own],
  ]);
  const files = await finish(work);
  assert.equal(files.length, 3);
  for (const { table, path, rowCount, lsnStart, lsnEnd } of files) {
    const [names, kinds] = await queryDuckdb(`describe select * from ${parquetScan(join(folder.path, path))}`);
    assert.deepEqual(
      names!.values.map((name, index) => [name, kinds!.values[index]]),
      expected.get(table),
    );
    assert.match(path, new RegExp(`^app/public.t${table.oid}/stream/2025/05/08/06/1-2-00000003-00000[012].parquet$`));
    assert.deepEqual([rowCount, lsnStart, lsnEnd], [1, 20n, 20n]);
    const metadata = await queryDuckdb(
      `select decode(key), decode(value) from parquet_kv_metadata('${join(folder.path, path)}')`,
    );
    const facts = new Map(metadata[0]!.values.map((key, index) => [key, metadata[1]!.values[index] as string]));
    const known = columns.map(({ name, attnum, typeOid }) => ({ name, attnum, type_oid: typeOid }));
    const told = JSON.parse(facts.get("pg_flo.columns")!) as { name: string; attnum: number; type_oid: number }[];
    assert.deepEqual(
      told.map(({ name, attnum, type_oid }) => ({ name, attnum, type_oid })),
      known,
    );
    for (const [key, value] of [
      ["kind", "stream"],
      ["schema_version", "1"],
      ["lsn_start", "20"],
      ["lsn_end", "20"],
    ] as const) {
      assert.equal(facts.get(`pg_flo.${key}`), value);
    }
  }
});

test("each operation fills the columns that the contract names, and leaves the others NULL", async () => {
  await using folder = await makeTestFolder();
  const work = writing(openLocalStorage(folder.path), [docs]);
  const old = (id: number) => ({ kind: "K", tuple: [String(id), null, null] }) as const;
  work.transaction(20n, [
    message.truncate(1),
    message.insert(1, row(1, "doc", "{}")),
    message.insert(1, row(2, null, null)),
  ]);
  work.transaction(30n, [
    message.update(1, row(1, UNCHANGED, UNCHANGED)),
    message.update(1, row(3, UNCHANGED), old(2)),
    message.delete(1, "K", old(9).tuple),
  ]);
  const [file] = await finish(work);
  const of = (operation: string, lsn: number, sequence: number) => ({
    _pg_flo_operation: operation,
    _pg_flo_lsn: String(lsn),
    _pg_flo_sequence: String(sequence),
    _pg_flo_xid: String(3_000_000_000 + lsn),
    _pg_flo_timestamp: COMMIT_TIME_US,
    _pg_flo_schema: "public",
    _pg_flo_table: "t1",
  });
  assert.deepEqual(rowsOf(await read(folder, file!)), [
    of("TRUNCATE", 20, 0),
    { id: "1", Doc_x: "doc", tags: [], ...of("INSERT", 20, 1) },
    { id: "2", ...of("INSERT", 20, 2) },
    { id: "1", ...of("UPDATE", 30, 0), _pg_flo_unchanged: ["Doc.x", "tags"] },
    { id: "3", tags: ["a", null], ...of("UPDATE", 30, 1), _pg_flo_unchanged: ["Doc.x"], _old_id: "2" },
    { id: "9", ...of("DELETE", 30, 2), _old_id: "9" },
  ]);
  assert.deepEqual([file!.rowCount, file!.lsnStart, file!.lsnEnd], [6, 20n, 30n]);
});

test("under REPLICA IDENTITY FULL the whole old row is there, and a DELETE names its key in the own columns too", async () => {
  await using folder = await makeTestFolder();
  const work = writing(openLocalStorage(folder.path), [whole]);
  work.transaction(20n, [
    message.update(2, row(1, "new"), { kind: "O", tuple: row(1, "old", null) }),
    message.delete(2, "O", row(2, "gone")),
  ]);
  const [file] = await finish(work);
  const shown = rowsOf(await read(folder, file!)).map((each) =>
    Object.fromEntries(Object.entries(each).filter(([name]) => !/^_pg_flo_(lsn|seq|xid|time|schema|table)/.test(name))),
  );
  assert.deepEqual(shown, [
    { id: "1", Doc_x: "new", tags: ["a", null], _pg_flo_operation: "UPDATE", _old_id: "1", _old_Doc_x: "old" },
    { id: "2", _pg_flo_operation: "DELETE", _old_id: "2", _old_Doc_x: "gone", _old_tags: ["a", null] },
  ]);
});

test("a value that its column cannot hold is told in _pg_flo_exact, also an old one, and counted", async () => {
  await using folder = await makeTestFolder();
  const large = `1${"0".repeat(30)}`;
  const numbers = tableOf(1, [sourceColumn("n", 1, 1700)], { kind: "key", columns: ["n"] });
  const work = writing(openLocalStorage(folder.path), [numbers]);
  work.transaction(20n, [message.update(1, [large], { kind: "K", tuple: ["NaN"] }), message.insert(1, ["1"])]);
  const [file] = await finish(work);
  const exact = (await read(folder, file!)).find(({ name }) => name === "_pg_flo_exact")!.values;
  assert.deepEqual(exact, [JSON.stringify({ n: large, _old_n: "NaN" }), null]);
  assert.deepEqual(
    [...file!.inexact],
    [
      ["n", 1],
      ["_old_n", 1],
    ],
  );
});

test("files of a table follow each other when they are large enough, each with the range of its own rows", async () => {
  await using folder = await makeTestFolder();
  const work = writing(openLocalStorage(folder.path), [docs, loose], 1);
  for (let i = 0; i < 1000; i++) {
    const changes = Array.from({ length: 10 }, (_, k) => message.insert(1, row(i * 10 + k, `doc ${i}`)));
    work.transaction(BigInt(1000 + i), i === 500 ? [...changes, message.insert(3, row(1, "loose"))] : changes);
  }
  const files = await finish(work);
  const ranges = files.map(({ table, rowCount, lsnStart, lsnEnd }) => [table.oid, rowCount, lsnStart, lsnEnd]);
  assert.deepEqual(ranges.sort(), [
    [1, 1808, 1819n, 1999n],
    [1, 4096, 1000n, 1409n],
    [1, 4096, 1409n, 1819n],
    [3, 1, 1500n, 1500n],
  ]);
  const paths = files.filter(({ table }) => table === docs).map(({ path }) => `'${join(folder.path, path)}'`);
  const [count, distinct] = await queryDuckdb(
    `select count(*), count(distinct id) from read_parquet([${paths.join(", ")}])`,
  );
  assert.deepEqual([count!.values, distinct!.values], [["10000"], ["10000"]]);
});

test("rows that are encoded in several goes, with the arena given back between, are all there", async () => {
  await using folder = await makeTestFolder();
  const work = writing(openLocalStorage(folder.path), [docs]);
  for (let i = 0; i < 300; i++) {
    work.transaction(BigInt(100 + i), [message.insert(1, row(i, `doc ${i}`))]);
    if (i % 7 !== 0) continue;
    feed(work.reader, [message.begin(BigInt(1000 + i)), message.insert(1, row(1000 + i, "open"))]);
    await work.batch.encodePending(work.reader.arena);
    work.reader.releaseCommitted();
    feed(work.reader, [message.commit(BigInt(1000 + i))]);
  }
  const [file] = await finish(work);
  const [ids, docTexts] = await read(folder, file!);
  const expected = [
    ...Array.from({ length: 300 }, (_, i) => `${i} doc ${i}`),
    ...Array.from({ length: 43 }, (_, i) => `${1000 + i * 7} open`),
  ];
  assert.deepEqual(
    ids!.values.map((id, index) => `${String(id)} ${String(docTexts!.values[index])}`).sort(),
    expected.sort(),
  );
});

test("values that came as text give the same file as those that came in binary", async () => {
  const oids: Readonly<Record<string, number>> = {
    ...{ bool: 16, bytea: 17, int8: 20, int2: 21, int4: 23, text: 25, json: 114, float4: 700, float8: 701 },
    ...{ varchar: 1043, date: 1082, time: 1083, timestamp: 1114, timestamptz: 1184, numeric: 1700, uuid: 2950 },
    ...{ jsonb: 3802, "int[]": 1007 },
  };
  const letters: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };
  const vectors = readFileSync(new URL("../../test/golden/golden.jsonl", import.meta.url), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { type: string; wire_hex: string | null; copy_text: string | null });
  const byType = Map.groupBy(vectors, ({ type }) => type);
  const used = Object.keys(oids).filter((type) => byType.has(type));
  assert.ok(used.length >= 15, used.join());
  const source = used.map((type, index) => sourceColumn(`c ${type}`, index + 1, oids[type]!));
  const table = tableOf(1, source, { kind: "full", columns: [] }, types);
  const rowCount = Math.max(...used.map((type) => byType.get(type)!.length));
  const tuples = (form: "text" | "binary"): Tuple[] =>
    Array.from({ length: rowCount }, (_, at) =>
      used.map((type) => {
        const vector = byType.get(type)![at % byType.get(type)!.length]!;
        if (vector.wire_hex === null || vector.copy_text === null) return null;
        if (form === "binary") return new Uint8Array(Buffer.from(vector.wire_hex, "hex"));
        return vector.copy_text.replace(/\\(.)/gs, (_match, letter: string) => letters[letter] ?? letter);
      }),
    );
  const written: Uint8Array[] = [];
  await using folder = await makeTestFolder();
  for (const form of ["text", "binary"] as const) {
    const work = writing(openLocalStorage(join(folder.path, form)), [table]);
    const given = tuples(form);
    work.transaction(20n, [
      ...given.map((tuple) => message.insert(1, tuple)),
      ...given.map((tuple, at) => message.update(1, given.at(at - 1)!, { kind: "O", tuple })),
      ...given.map((tuple) => message.delete(1, "O", tuple)),
    ]);
    const [file] = await finish(work);
    written.push(new Uint8Array(await readFile(join(folder.path, form, file!.path))));
  }
  const [text, binary] = written;
  assert.ok(Buffer.from(text!).equals(binary!));
  assert.equal((await readEverywhere(folder, "both.parquet", text!))[0]!.values.length, rowCount * 3);
});

test("a value that comes in binary and has no binary decoder asks for text", async () => {
  await using folder = await makeTestFolder();
  const unknown = tableOf(1, [sourceColumn("p", 1, 70_000)], { kind: "none" });
  const work = writing(openLocalStorage(folder.path), [unknown]);
  work.transaction(20n, [message.insert(1, [new Uint8Array(16)])]);
  await assert.rejects(finish(work), (error) => error instanceof PgFloError && error.code === "NEEDS_TEXT");
  await work.batch.abort();
  assert.deepEqual(await filesIn(folder), []);
});

test("files of many wide tables are finished before all of them are open", async () => {
  await using folder = await makeTestFolder();
  const wide = Array.from({ length: 30 }, (_, index) => sourceColumn(`c${index}`, index + 1, 25));
  const tables = Array.from({ length: 150 }, (_, index) => tableOf(index + 1, wide, { kind: "key", columns: ["c0"] }));
  const work = writing(openLocalStorage(folder.path), tables);
  for (const lsn of [10n, 20n]) {
    const tuple = wide.map((_, index) => `${lsn} ${index}`);
    work.transaction(
      lsn,
      tables.map(({ oid }) => message.insert(oid, tuple)),
    );
    await work.batch.encodePending(work.reader.arena);
    work.reader.releaseCommitted();
  }
  const early = (await filesIn(folder)).length;
  assert.ok(early > 0, `${early} files before the end`);
  const files = await finish(work);
  for (const table of tables) {
    const own = files.filter((file) => file.table === table);
    assert.equal(
      own.reduce((sum, { rowCount }) => sum + rowCount, 0),
      2,
    );
  }
  assert.equal(new Set(files.map(({ path }) => path)).size, files.length);
});

test("an aborted batch leaves no file, whatever it had written", async () => {
  await using folder = await makeTestFolder();
  for (const finished of [false, true]) {
    const work = writing(openLocalStorage(folder.path), [docs, whole, loose], 1);
    for (let i = 0; i < 500; i++) {
      work.transaction(
        BigInt(100 + i),
        [1, 2, 3].flatMap((oid) => Array.from({ length: 10 }, (_, k) => message.insert(oid, row(i * 10 + k, "doc")))),
      );
    }
    if (finished) assert.equal((await finish(work)).length, 6);
    else await work.batch.encodePending(work.reader.arena);
    await work.batch.abort();
    assert.deepEqual(await filesIn(folder), []);
  }
});

test("a storage that fails ends finish with its error, and abort drops the other files", async () => {
  await using folder = await makeTestFolder();
  const local = openLocalStorage(folder.path);
  const failure = new PgFloError("STORAGE_FULL", "the third file does not fit");
  let created = 0;
  const storage: Storage = {
    ...local,
    create: async (path) => {
      const sink = await local.create(path);
      if (++created !== 3) return sink;
      return { write: () => Promise.reject(failure), finish: () => sink.finish(), abort: () => sink.abort() };
    },
  };
  const tables = Array.from({ length: 40 }, (_, index) => tableOf(index + 1, columns, { kind: "none" }, types));
  const work = writing(storage, tables);
  work.transaction(
    10n,
    tables.map(({ oid }) => message.insert(oid, row(1, "doc"))),
  );
  await assert.rejects(finish(work), failure);
  await work.batch.abort();
  assert.deepEqual(await filesIn(folder), []);
});
