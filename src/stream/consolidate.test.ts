// Every rule of design.md's "Consolidation", one case each.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  feed,
  lsnOf,
  message,
  type NetRow,
  netRows,
  relationOf,
  type Tuple,
  textTable,
  UNCHANGED,
} from "../../test/support/stream-log.ts";
import { ChangeReader } from "./change-reader.ts";

const keyed = textTable(1, ["id", "v", "big"], { kind: "key", columns: ["id"] });
const full = textTable(2, ["id", "v", "big"], { kind: "full", columns: ["id"] });
const keyless = textTable(3, ["id", "v", "big"], { kind: "full", columns: [] });
const none = textTable(4, ["id", "v", "big"], { kind: "none" });
const composite = textTable(5, ["v", "a", "w", "b"], { kind: "key", columns: ["a", "b"] });
const tables = [keyed, full, keyless, none, composite];

const relations = tables.map(relationOf);

/** Rows of one transaction as [operation, row, old, sequence], of one table or with the table's OID in front. */
function consolidated(changes: readonly (readonly number[])[]): NetRow[] {
  const rows: NetRow[][] = [];
  const reader = new ChangeReader(new Map(tables.map((table) => [table.oid, table])), lsnOf(0), {
    committed: ({ store }) => rows.push(netRows(store)),
    reached: () => {},
    halted: ({ reason }) => assert.fail(reason),
  });
  feed(reader, [...relations, message.begin(10n), ...changes, message.commit(10n)]);
  return rows[0] ?? [];
}

type Expected = readonly [operation: string, row: Tuple | null, old: Tuple | null, sequence: number];

function expectRows(changes: readonly (readonly number[])[], expected: readonly Expected[]): void {
  const rows = consolidated(changes).map(({ operation, row, old, sequence }) => [operation, row, old, sequence]);
  assert.deepEqual(rows, expected);
  // The same among many others: these are found by the hash index, the few by looking at each.
  const others = Array.from({ length: 40 }, (_, i) => message.insert(none.oid, [`other ${i}`, "", ""]));
  const among = consolidated([...changes, ...others])
    .filter(({ table }) => table !== none)
    .map(({ operation, row, old, sequence }) => [operation, row, old, sequence]);
  if (!expected.some(([, row]) => row?.[1] === "of none")) assert.deepEqual(among, expected);
}

const { oid } = keyed;
const key = (id: string): Tuple => [id, null, null];
const insert = (id: string, v = "new", big: Tuple[0] = "B") => message.insert(oid, [id, v, big]);
const update = (id: string, v: string, big: Tuple[0] = "B") => message.update(oid, [id, v, big]);
const move = (from: string, to: string, v = "moved", big: Tuple[0] = "B") =>
  message.update(oid, [to, v, big], { kind: "K", tuple: key(from) });
const remove = (id: string) => message.delete(oid, "K", key(id));

test("a transaction without changes has no rows", () => expectRows([], []));

test("insert, update and delete of one row are nothing", () => {
  expectRows([insert("1"), update("1", "x"), remove("1")], []);
});

test("insert and updates are one INSERT of the last image, at the last change", () => {
  expectRows([insert("1"), update("1", "x"), update("1", "y")], [["INSERT", ["1", "y", "B"], null, 2]]);
});

test("a thousand updates of one row are one UPDATE", () => {
  const updates = Array.from({ length: 1000 }, (_, i) => update("1", `v${i}`));
  expectRows(updates, [["UPDATE", ["1", "v999", "B"], null, 999]]);
});

test("update and delete are a DELETE of the identity", () => {
  const rows = consolidated([update("1", "x"), remove("1")]);
  assert.deepEqual(
    rows.map(({ operation, row, old, sequence }) => [operation, row, old?.[0], sequence]),
    [["DELETE", null, "1", 1]],
  );
});

test("delete and insert of the same key are an UPDATE with the whole new image", () => {
  expectRows([remove("1"), insert("1", "again")], [["UPDATE", ["1", "again", "B"], null, 1]]);
});

test("delete, insert and delete of the same key are a DELETE", () => {
  expectRows([remove("1"), insert("1"), remove("1")], [["DELETE", null, key("1"), 2]]);
});

test("a key change is an UPDATE with the old identity, and nothing at the old place", () => {
  expectRows([move("1", "2")], [["UPDATE", ["2", "moved", "B"], key("1"), 0]]);
});

test("a chain of key changes is one UPDATE from the first to the last", () => {
  expectRows([move("1", "2"), move("2", "3"), update("3", "end")], [["UPDATE", ["3", "end", "B"], key("1"), 2]]);
});

test("a row that moves away and back is an UPDATE in place", () => {
  expectRows([move("1", "2"), move("2", "1", "back")], [["UPDATE", ["1", "back", "B"], null, 1]]);
});

test("an inserted row that moves is an INSERT at its last place", () => {
  expectRows([insert("1"), move("1", "2", "there")], [["INSERT", ["2", "there", "B"], null, 1]]);
});

test("a swap through a temporary key is two UPDATEs, each from the other's place", () => {
  expectRows(
    [move("1", "t", "a"), move("2", "1", "b"), move("t", "2", "a")],
    [
      ["UPDATE", ["1", "b", "B"], key("2"), 1],
      ["UPDATE", ["2", "a", "B"], key("1"), 2],
    ],
  );
});

test("a shift along a row of keys keeps every row", () => {
  expectRows(
    [move("3", "4", "c"), move("2", "3", "b"), move("1", "2", "a")],
    [
      ["UPDATE", ["3", "b", "B"], key("2"), 1],
      ["UPDATE", ["4", "c", "B"], key("3"), 0],
      ["UPDATE", ["2", "a", "B"], key("1"), 2],
    ],
  );
});

test("a move onto a deleted place is an UPDATE there, and no DELETE", () => {
  expectRows([remove("2"), move("1", "2")], [["UPDATE", ["2", "moved", "B"], key("1"), 1]]);
});

test("a row that moves onto a deleted place and on leaves the DELETE behind", () => {
  expectRows(
    [remove("2"), move("1", "2"), move("2", "3")],
    [
      ["DELETE", null, key("2"), 2],
      ["UPDATE", ["3", "moved", "B"], key("1"), 2],
    ],
  );
});

test("a new row at the place of one that moved away is an UPDATE beside the move", () => {
  expectRows(
    [move("1", "2"), insert("1", "fresh")],
    [
      ["UPDATE", ["1", "fresh", "B"], null, 1],
      ["UPDATE", ["2", "moved", "B"], key("1"), 0],
    ],
  );
});

test("a row that moved and was deleted is a DELETE of its first place", () => {
  expectRows([move("1", "2"), remove("2")], [["DELETE", null, key("1"), 0]]);
});

test("a row that moved and was deleted, with a new one at its first place, is an UPDATE there", () => {
  expectRows([move("1", "2"), remove("2"), insert("1", "fresh")], [["UPDATE", ["1", "fresh", "B"], null, 2]]);
});

test("TRUNCATE takes away the table's earlier changes and keeps the later ones", () => {
  expectRows(
    [insert("1"), update("2", "x"), message.truncate(oid), insert("1", "after"), insert("3"), remove("3")],
    [
      ["TRUNCATE", null, null, 2],
      ["INSERT", ["1", "after", "B"], null, 3],
    ],
  );
});

test("of several TRUNCATEs the last one counts", () => {
  expectRows(
    [message.truncate(oid), insert("1"), message.truncate(oid), insert("2")],
    [
      ["TRUNCATE", null, null, 2],
      ["INSERT", ["2", "new", "B"], null, 3],
    ],
  );
});

test("TRUNCATE of one table leaves the others' changes", () => {
  const rows = consolidated([insert("1"), message.insert(full.oid, ["1", "x", "y"]), message.truncate(full.oid)]);
  assert.deepEqual(
    rows.map(({ table, operation }) => [table.oid, operation]),
    [
      [full.oid, "TRUNCATE"],
      [keyed.oid, "INSERT"],
    ],
  );
});

test("an unchanged value is filled in from earlier in the transaction", () => {
  expectRows([insert("1", "a", "LONG"), update("1", "b", UNCHANGED)], [["INSERT", ["1", "b", "LONG"], null, 1]]);
  expectRows([update("1", "a", "LONG"), update("1", "b", UNCHANGED)], [["UPDATE", ["1", "b", "LONG"], null, 1]]);
  expectRows(
    [update("1", "a", "LONG"), move("1", "2", "b", UNCHANGED), update("2", "c", UNCHANGED)],
    [["UPDATE", ["2", "c", "LONG"], ["1", "a", "LONG"], 2]],
  );
});

test("an unchanged value that the transaction never wrote stays unchanged", () => {
  expectRows([update("1", "a", UNCHANGED), update("1", "b", UNCHANGED)], [["UPDATE", ["1", "b", UNCHANGED], null, 1]]);
  expectRows([move("1", "2", "b", UNCHANGED)], [["UPDATE", ["2", "b", UNCHANGED], key("1"), 0]]);
});

test("an unchanged value that was NULL before is not confused with one that is not known", () => {
  expectRows([update("1", "a", null), update("1", "b", null)], [["UPDATE", ["1", "b", null], null, 1]]);
});

test("a large value that thousands of updates leave unchanged is kept once", () => {
  const large = "x".repeat(1 << 20);
  let arenaBytes = 0;
  const reader = new ChangeReader(new Map([[oid, keyed]]), lsnOf(0), {
    committed: ({ store }) => {
      const rows = netRows(store);
      assert.equal(rows.length, 1);
      assert.deepEqual(rows[0]!.row, ["1", "v1999", large]);
      arenaBytes = store.arena.length;
    },
    reached: () => {},
    halted: ({ reason }) => assert.fail(reason),
  });
  const updates = Array.from({ length: 2000 }, (_, i) => update("1", `v${i}`, UNCHANGED));
  feed(reader, [...relations.slice(0, 1), message.begin(10n), insert("1", "", large), ...updates, message.commit(10n)]);
  assert.ok(arenaBytes < 2 * large.length, `${arenaBytes} bytes`);
});

test("under REPLICA IDENTITY FULL with a key the first old row is told, and unchanged values come from the old row", () => {
  const change = (row: Tuple, old: Tuple) => message.update(full.oid, row, { kind: "O", tuple: old });
  expectRows(
    [change(["1", "b", UNCHANGED], ["1", "a", "LONG"]), change(["2", "c", UNCHANGED], ["1", "b", "LONG"])],
    [["UPDATE", ["2", "c", "LONG"], ["1", "a", "LONG"], 1]],
  );
  expectRows(
    [change(["1", "b", "B"], ["1", "a", "A"]), message.delete(full.oid, "O", ["1", "b", "B"])],
    [["DELETE", null, ["1", "a", "A"], 1]],
  );
  expectRows(
    [message.delete(full.oid, "O", ["1", "a", "A"]), message.insert(full.oid, ["1", "n", "N"])],
    [["UPDATE", ["1", "n", "N"], ["1", "a", "A"], 1]],
  );
  expectRows([message.insert(full.oid, ["1", "n", "N"])], [["INSERT", ["1", "n", "N"], null, 0]]);
});

test("under REPLICA IDENTITY FULL without a key every change stays, in order, with unchanged values filled in", () => {
  expectRows(
    [
      message.insert(keyless.oid, ["1", "a", "A"]),
      message.update(keyless.oid, ["1", "b", UNCHANGED], { kind: "O", tuple: ["1", "a", "A"] }),
      message.delete(keyless.oid, "O", ["1", "b", "A"]),
    ],
    [
      ["INSERT", ["1", "a", "A"], null, 0],
      ["UPDATE", ["1", "b", "A"], ["1", "a", "A"], 1],
      ["DELETE", null, ["1", "b", "A"], 2],
    ],
  );
});

test("without an identity every row stays, in order, also equal ones, and TRUNCATE takes the earlier ones away", () => {
  const row: Tuple = ["1", "of none", "A"];
  const put = message.insert(none.oid, row);
  expectRows(
    [put, put, put],
    [
      ["INSERT", row, null, 0],
      ["INSERT", row, null, 1],
      ["INSERT", row, null, 2],
    ],
  );
  expectRows(
    [put, message.truncate(none.oid), put],
    [
      ["TRUNCATE", null, null, 1],
      ["INSERT", row, null, 2],
    ],
  );
});

test("a composite identity is compared in all its columns", () => {
  const at = (a: string, b: string, v = "v") => message.insert(composite.oid, [v, a, "w", b]);
  expectRows(
    [
      at("x", "1"),
      at("x", "2"),
      at("y", "1"),
      at("", "x1"),
      message.delete(composite.oid, "K", [null, "x", null, "2"]),
    ],
    [
      ["INSERT", ["v", "x", "w", "1"], null, 0],
      ["INSERT", ["v", "y", "w", "1"], null, 2],
      ["INSERT", ["v", "", "w", "x1"], null, 3],
    ],
  );
});

test("an identity column whose TOASTed value was not touched is no move", () => {
  const old = { kind: "K", tuple: [null, "x", null, "LONG"] } as const;
  expectRows(
    [
      message.update(composite.oid, ["v", "x", "w", UNCHANGED], old),
      message.update(composite.oid, ["v2", "x", "w", UNCHANGED], old),
    ],
    [["UPDATE", ["v2", "x", "w", "LONG"], null, 1]],
  );
  expectRows(
    [message.update(composite.oid, ["v", "y", "w", UNCHANGED], old)],
    [["UPDATE", ["v", "y", "w", "LONG"], old.tuple, 0]],
  );
});

test("the same identity in two tables is two rows", () => {
  const rows = consolidated([insert("1"), message.insert(full.oid, ["1", "a", "b"]), remove("1")]);
  assert.deepEqual(
    rows.map(({ table, row }) => [table.oid, row]),
    [[full.oid, ["1", "a", "b"]]],
  );
});

test("a consolidator forgets one transaction before the next, whatever their sizes", () => {
  for (const count of [1000, 3, 70_000, 20, 1, 140_000, 13, 12]) {
    const changes = Array.from({ length: count }, (_, i) => insert(String(i)));
    assert.equal(consolidated(changes).length, count);
  }
});
