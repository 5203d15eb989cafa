// The rule "The state of a table at position P", case by case, on files made by DuckDB.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Change, type CopyRow, MirrorFiles } from "../../test/support/mirror-files.ts";
import { changesSql } from "./changes-sql.ts";
import type { MirrorTable } from "./mirror-table.ts";
import { stateSql } from "./state-sql.ts";

const byId = { kind: "key", columns: ["id"] } as const;
const byAll = { kind: "full", columns: [] } as const;
const nothing = { kind: "none", columns: [] } as const;
const noteColumns = [
  ["id", "INTEGER"],
  ["note", "VARCHAR"],
  ["doc", "VARCHAR"],
] as const;

async function notes(files: MirrorFiles, copied: readonly CopyRow[], ...batches: readonly (readonly Change[])[]) {
  files.version(noteColumns);
  await files.copy(copied);
  for (const batch of batches) await files.stream(batch);
}

const row = (id: number, note: string, doc?: string) => ({
  row: { id: String(id), note: `'${note}'`, ...(doc === undefined ? {} : { doc: `'${doc}'` }) },
});

test("a table without files is an empty view with its columns and types", async () => {
  await using files = await MirrorFiles.create();
  files.version([
    ["id", "BIGINT"],
    ["price", "DECIMAL(12,2)"],
    ["at", "TIMESTAMP WITH TIME ZONE"],
    ["tags", "VARCHAR[]"],
  ]);
  for (const identity of [byId, byAll, nothing, { kind: "full", columns: ["id"] } as const]) {
    const table = files.table(identity);
    const types = [
      ["id", "BIGINT"],
      ["price", "DECIMAL(12,2)"],
      ["at", "TIMESTAMP WITH TIME ZONE"],
      ["tags", "VARCHAR[]"],
    ];
    assert.deepEqual(await files.describe(stateSql(table)), types);
    assert.deepEqual(await files.rows(stateSql(table)), []);
    assert.deepEqual((await files.describe(changesSql(table))).slice(0, 5), [
      ...types,
      ["_pg_flo_operation", "VARCHAR"],
    ]);
    assert.deepEqual(await files.rows(changesSql(table)), []);
  }
});

test("changes before the cut and after the position or the asked position do not count", async () => {
  await using files = await MirrorFiles.create();
  const changes = [90, 100, 110, 120].map((lsn) => ({ lsn, op: "UPDATE" as const, ...row(1, `at ${lsn}`, "d") }));
  await notes(files, [row(1, "copied", "d")], changes);
  const table = files.table(byId, { cutLsn: 100n, position: 115n });
  const state = (at?: bigint) => files.rows(stateSql(table, at === undefined ? {} : { at }));
  assert.deepEqual(await state(95n), [["1", "copied", "d"]]);
  assert.deepEqual(await state(100n), [["1", "at 100", "d"]]);
  assert.deepEqual(await state(), [["1", "at 110", "d"]]);
  assert.deepEqual(await state(500n), [["1", "at 110", "d"]]);
});

test("files wholly outside the range are not opened", async () => {
  await using files = await MirrorFiles.create();
  await notes(files, [row(1, "a", "d")], [{ lsn: 100, op: "INSERT", ...row(2, "b", "d") }]);
  const table = files.table(byId, { cutLsn: 50n, position: 300n });
  const gone = { kind: "stream" as const, path: "/nowhere/at/all.parquet", schemaVersion: 1 };
  const more = [
    { ...gone, lsnStart: 10n, lsnEnd: 49n },
    { ...gone, lsnStart: 201n, lsnEnd: 210n },
  ];
  const sql = stateSql({ ...table, files: [...table.files, ...more] }, { at: 200n });
  assert.equal((await files.rows(sql)).length, 2);
});

test("a swap and a chain of keys in one transaction come out right in any order", async () => {
  for (const reversed of [false, true]) {
    await using files = await MirrorFiles.create();
    const changes: Change[] = [
      { lsn: 100, op: "UPDATE", ...row(2, "was 1"), old: { id: "1" }, unchanged: ["doc"] },
      { lsn: 100, op: "UPDATE", ...row(1, "was 2"), old: { id: "2" }, unchanged: ["doc"] },
      { lsn: 100, op: "UPDATE", ...row(4, "was 3"), old: { id: "3" }, unchanged: ["doc"] },
      { lsn: 100, op: "UPDATE", ...row(5, "was 4"), old: { id: "4" }, unchanged: ["doc"] },
    ];
    const copied = [row(1, "a", "d1"), row(2, "b", "d2"), row(3, "c", "d3"), row(4, "d", "d4")];
    await notes(files, copied, reversed ? changes.reverse() : changes);
    assert.deepEqual(await files.rows(stateSql(files.table(byId))), [
      ["1", "was 2", "d2"],
      ["2", "was 1", "d1"],
      ["4", "was 3", "d3"],
      ["5", "was 4", "d4"],
    ]);
  }
});

test("an unchanged value follows its row over key changes, also past another row that took its place", async () => {
  await using files = await MirrorFiles.create();
  await notes(
    files,
    [row(1, "a", "first")],
    [{ lsn: 100, op: "UPDATE", ...row(2, "b"), old: { id: "1" }, unchanged: ["doc"] }],
    [{ lsn: 110, op: "INSERT", ...row(1, "new", "second") }],
    [{ lsn: 120, op: "UPDATE", ...row(3, "c"), old: { id: "2" }, unchanged: ["doc"] }],
    [
      { lsn: 130, op: "DELETE", row: { id: "1" }, old: { id: "1" } },
      { lsn: 130, op: "UPDATE", ...row(3, "d"), unchanged: ["doc"] },
    ],
    [{ lsn: 140, op: "INSERT", ...row(1, "newest", "third") }],
    [{ lsn: 150, op: "UPDATE", ...row(1, "changed"), unchanged: ["doc"] }],
  );
  assert.deepEqual(await files.rows(stateSql(files.table(byId))), [
    ["1", "changed", "third"],
    ["3", "d", "first"],
  ]);
});

test("a thousand updates that leave a value unchanged end at the last one that wrote it", async () => {
  await using files = await MirrorFiles.create();
  const changes = Array.from({ length: 1000 }, (_, at): Change => {
    const lsn = 100 + at;
    return at === 10
      ? { lsn, op: "UPDATE", ...row(1, "wrote", "written") }
      : { lsn, op: "UPDATE", ...row(1, `n${at}`), unchanged: ["doc"] };
  });
  await notes(files, [row(1, "a", "copied")], changes);
  assert.deepEqual(await files.rows(stateSql(files.table(byId))), [["1", "n999", "written"]]);
  assert.deepEqual(await files.rows(stateSql(files.table(byId), { at: 105n })), [["1", "n5", "copied"]]);
});

test("TRUNCATE empties the table before the other rows of its transaction", async () => {
  await using files = await MirrorFiles.create();
  await notes(
    files,
    [row(1, "a", "d"), row(2, "b", "d")],
    [{ lsn: 100, op: "INSERT", ...row(3, "c", "d") }],
    [
      { lsn: 110, op: "INSERT", ...row(4, "after", "d") },
      { lsn: 110, op: "TRUNCATE" },
    ],
    [{ lsn: 120, op: "INSERT", ...row(1, "again", "d") }],
  );
  const table = files.table(byId);
  assert.deepEqual(await files.rows(stateSql(table)), [
    ["1", "again", "d"],
    ["4", "after", "d"],
  ]);
  assert.equal((await files.rows(stateSql(table, { at: 105n }))).length, 3);
});

test("a row that was copied twice is replaced by its changes once", async () => {
  await using files = await MirrorFiles.create();
  await notes(files, [row(1, "early", "d")], [{ lsn: 100, op: "UPDATE", ...row(1, "streamed"), unchanged: ["doc"] }]);
  await files.copy([row(1, "late", "d")]);
  assert.deepEqual(await files.rows(stateSql(files.table(byId))), [["1", "streamed", "d"]]);
});

test("composite keys of every type find their row", async () => {
  const keys: readonly (readonly [type: string, a: string, b: string])[] = [
    ["DECIMAL(38,18)", "1.5", "2.5"],
    ["VARCHAR", "''", "'a''b'"],
    ["UUID", "'87b69a72-b77e-4521-8abf-7db56add7672'", "'00000000-0000-0000-0000-000000000000'"],
    ["TIMESTAMP WITH TIME ZONE", "'2024-01-01 00:00:00.000001+00'", "'2024-01-01 00:00:00+00'"],
    ["BLOB", "'\\x00\\xFF'::BLOB", "''::BLOB"],
    ["DOUBLE", "'NaN'::DOUBLE", "'-Infinity'::DOUBLE"],
    ["BOOLEAN", "true", "false"],
    ["INTEGER[]", "[1, NULL]", "[]"],
  ];
  for (const [type, a, b] of keys) {
    await using files = await MirrorFiles.create();
    files.version([
      ["part", "INTEGER"],
      ["key", type],
      ["doc", "VARCHAR"],
    ]);
    await files.copy([{ row: { part: "1", key: a, doc: "'kept'" } }, { row: { part: "1", key: b, doc: "'gone'" } }]);
    const moved = { row: { part: "2", key: a }, old: { part: "1", key: a }, unchanged: ["doc"] };
    await files.stream([
      { lsn: 100, op: "DELETE", row: { part: "1", key: b }, old: { part: "1", key: b } },
      { lsn: 100, op: "UPDATE", ...moved },
    ]);
    const sql = stateSql(files.table({ kind: "key", columns: ["part", "key"] }));
    assert.deepEqual(await files.rows(`SELECT part, doc FROM (${sql})`), [["2", "kept"]], type);
  }
});

test("keys that a file cannot hold are told apart by their exact text", async () => {
  await using files = await MirrorFiles.create();
  files.version([
    ['k."/~', "DECIMAL(10,2)", { fileName: 'k"/~' }],
    ["v", "VARCHAR"],
  ]);
  const key = (text: string, prefix = "") => ({ exact: { [`${prefix}k."/~`]: text } });
  await files.copy([
    { row: { v: "'nan'" }, ...key("NaN") },
    { row: { v: "'big'" }, ...key("1e99") },
    { row: { v: "'tiny'" }, ...key("1e-99") },
  ]);
  await files.stream([
    { lsn: 100, op: "DELETE", exact: { 'k."/~': "NaN", '_old_k."/~': "NaN" } },
    { lsn: 110, op: "UPDATE", row: { 'k"/~': "5" }, unchanged: ["v"], ...key("1e99", "_old_") },
    { lsn: 120, op: "UPDATE", row: { v: "'tiny 2'" }, ...key("1e-99") },
  ]);
  assert.deepEqual(await files.rows(stateSql(files.table({ kind: "key", columns: ['k."/~'] }))), [
    ["5.00", "big"],
    [null, "tiny 2"],
  ]);
});

test("full identity with a key takes the key: an old image with the same key is no key change", async () => {
  await using files = await MirrorFiles.create();
  await notes(
    files,
    [row(1, "a", "d1"), row(2, "b", "d2")],
    [{ lsn: 100, op: "UPDATE", ...row(1, "a2"), old: row(1, "a", "d1").row, unchanged: ["doc"] }],
    [{ lsn: 110, op: "UPDATE", ...row(3, "a3"), old: row(1, "a2", "d1").row, unchanged: ["doc"] }],
    [{ lsn: 120, op: "DELETE", row: { id: "2" }, old: row(2, "b", "d2").row }],
  );
  assert.deepEqual(await files.rows(stateSql(files.table({ kind: "full", columns: ["id"] }))), [["3", "a3", "d1"]]);
});

test("without identity every insert after the last TRUNCATE stays, equal ones too", async () => {
  await using files = await MirrorFiles.create();
  await notes(
    files,
    [row(1, "a"), row(1, "a")],
    [{ lsn: 100, op: "INSERT", ...row(1, "a") }],
    [
      { lsn: 110, op: "INSERT", ...row(2, "lost") },
      { lsn: 110, op: "TRUNCATE" },
      { lsn: 110, op: "INSERT", ...row(3, "kept") },
      { lsn: 110, op: "INSERT", ...row(3, "kept") },
    ],
  );
  const table = files.table(nothing);
  assert.equal((await files.rows(stateSql(table, { at: 100n }))).length, 3);
  assert.deepEqual(await files.rows(stateSql(table)), [
    ["3", "kept", null],
    ["3", "kept", null],
  ]);
});

test("full identity without a key takes out one equal row, whatever its values", async () => {
  await using files = await MirrorFiles.create();
  files.version([
    ["d", "DOUBLE"],
    ["l", "VARCHAR[]"],
    ["n", "DECIMAL(10,2)"],
    ["t", "VARCHAR"],
  ]);
  const odd = { d: "'NaN'::DOUBLE", l: "['a', NULL]" };
  await files.copy([
    { row: odd, exact: { n: "NaN" } },
    { row: odd, exact: { n: "NaN" } },
    { row: odd, exact: { n: "Infinity" } },
    { row: odd },
    { row: { d: "-0.0::DOUBLE", t: "'minus'" } },
    { row: { d: "0.0::DOUBLE", t: "'minus'" } },
    { row: {} },
  ]);
  await files.stream([
    { lsn: 100, op: "DELETE", old: odd, exact: { _old_n: "NaN" } },
    { lsn: 100, op: "DELETE", old: { d: "0.0::DOUBLE", t: "'minus'" } },
    { lsn: 110, op: "UPDATE", row: { d: "1" }, old: odd, unchanged: ["t"] },
    { lsn: 120, op: "DELETE" },
    { lsn: 130, op: "INSERT", row: { d: "2", t: "'long'" } },
    { lsn: 140, op: "UPDATE", row: { d: "3" }, old: { d: "2", t: "'long'" }, unchanged: ["t"] },
    { lsn: 150, op: "UPDATE", row: { d: "4", t: "'long'" }, old: { d: "3", t: "'long'" } },
  ]);
  assert.deepEqual(await files.rows(stateSql(files.table(byAll))), [
    ["-0.0", null, null, "minus"],
    ["1.0", null, null, null],
    ["4.0", null, null, "long"],
    ["nan", "[a, NULL]", null, null],
    ["nan", "[a, NULL]", null, null],
  ]);
});

test("schema versions are joined by name, and by attnum where it is known", async () => {
  await using files = await MirrorFiles.create();
  files.version([
    ["id", "INTEGER", { attnum: 1 }],
    ["old name", "VARCHAR", { attnum: 2 }],
    ["dropped", "VARCHAR", { attnum: 3 }],
  ]);
  await files.copy([
    { row: { id: "1", "old name": "'one'", dropped: "'x'" } },
    { row: { id: "2", "old name": "'two'", dropped: "'x'" } },
  ]);
  await files.stream([{ lsn: 100, op: "INSERT", row: { id: "3", "old name": "'three'", dropped: "'x'" } }]);
  files.version([
    ["added", "DECIMAL(12,2)", { attnum: 4 }],
    ["id", "BIGINT", { attnum: 1 }],
    ["new name", "VARCHAR", { attnum: 2 }],
  ]);
  await files.stream([{ lsn: 110, op: "UPDATE", row: { id: "2", added: "7" }, unchanged: ["new name"] }]);
  const table = files.table(byId);
  assert.deepEqual(await files.describe(stateSql(table)), [
    ["added", "DECIMAL(12,2)"],
    ["id", "BIGINT"],
    ["new name", "VARCHAR"],
  ]);
  assert.deepEqual(await files.rows(stateSql(table)), [
    ["7.00", "2", "two"],
    [null, "1", "one"],
    [null, "3", "three"],
  ]);
  const withoutAttnum: MirrorTable = {
    ...table,
    versions: table.versions.map(({ schemaVersion, columns }) => ({
      schemaVersion,
      columns: columns.map(({ attnum: _, ...column }) => column),
    })),
  };
  assert.deepEqual((await files.rows(stateSql(withoutAttnum)))[2], [null, "3", null]);
  assert.deepEqual(
    (await files.describe(changesSql(table))).slice(0, 5).map(([name]) => name),
    ["added", "id", "new name", "old name", "dropped"],
  );
});

test("odd column names are shown as they are, clashing ones by their file's name", async () => {
  await using files = await MirrorFiles.create();
  files.version([
    ["select", "INTEGER"],
    ['qu"ote', "VARCHAR"],
    ["do.t", "VARCHAR", { fileName: "do_t" }],
    ["a", "VARCHAR"],
    ["A", "VARCHAR", { fileName: "A_2" }],
    ["c0", "VARCHAR"],
    ["id", "VARCHAR"],
  ]);
  await files.copy([{ row: { select: "1", do_t: "'copied'", 'qu"ote': "'q'" } }]);
  await files.stream([{ lsn: 100, op: "UPDATE", row: { select: "1", c0: "'c'" }, unchanged: ["do.t", 'qu"ote'] }]);
  const table = files.table({ kind: "key", columns: ["select"] });
  const names = ["select", 'qu"ote', "do.t", "a", "A_2", "c0", "id"];
  assert.deepEqual(
    (await files.describe(stateSql(table))).map(([name]) => name),
    names,
  );
  assert.deepEqual(
    (await files.describe(changesSql(table))).slice(0, 7).map(([name]) => name),
    names,
  );
  assert.deepEqual(await files.rows(stateSql(table)), [["1", "q", "copied", null, null, "c", null]]);
});

test("the history is every change that counts, in the order of the log", async () => {
  await using files = await MirrorFiles.create();
  await notes(
    files,
    [row(1, "a", "d")],
    [
      { lsn: 120, op: "DELETE", row: { id: "1" }, old: { id: "1" } },
      { lsn: 90, op: "UPDATE", ...row(1, "too early", "d") },
    ],
    [
      { lsn: 110, op: "UPDATE", ...row(1, "first"), unchanged: ["doc"] },
      { lsn: 110, op: "UPDATE", ...row(2, "second", "d"), old: { id: "3" } },
    ],
  );
  const sql = changesSql(files.table(byId, { cutLsn: 100n }), { at: 130n });
  const some = `SELECT id, note, _pg_flo_operation, _pg_flo_lsn, _pg_flo_unchanged, _old_id FROM (${sql})`;
  assert.deepEqual(await files.rows(some, "as they come"), [
    ["1", "first", "UPDATE", "110", "[doc]", null],
    ["2", "second", "UPDATE", "110", null, "3"],
    ["1", null, "DELETE", "120", null, "1"],
  ]);
});

test("an identity column that the newest version lacks is corrupt metadata", async () => {
  await using files = await MirrorFiles.create();
  await notes(files, [], [{ lsn: 100, op: "INSERT", ...row(1, "a", "d") }]);
  assert.throws(() => stateSql(files.table({ kind: "key", columns: ["gone"] })), { code: "METADATA_CORRUPT" });
  assert.throws(() => stateSql(files.table(byId, { versions: [] })), { code: "METADATA_CORRUPT" });
});
