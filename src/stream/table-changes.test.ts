// Tables that come and go while the stream runs: in the middle of transactions, and told of long before.
import assert from "node:assert/strict";
import { test } from "node:test";
import { feed, lsnOf, message, netRows, type SentRelation, textTable } from "../../test/support/stream-log.ts";
import { ChangeReader } from "./change-reader.ts";
import type { StreamTable, TableCut } from "./stream-table.ts";
import { changeTables } from "./table-changes.ts";

const columns = ["id", "v"];
const sent: SentRelation = { oid: 1, columns, replicaIdentity: "d" };
const other: SentRelation = { ...sent, oid: 2 };

function table(oid: number, cut: TableCut, changes: Partial<StreamTable> = {}): StreamTable {
  return { ...textTable(oid, columns, { kind: "key", columns: ["id"] }, cut), ...changes };
}

function reading(...first: StreamTable[]) {
  const tables = new Map(first.map((each) => [each.oid, each]));
  const committed: string[] = [];
  const reader = new ChangeReader(tables, lsnOf(0), {
    committed: ({ store }) => {
      for (const { table: own, row } of netRows(store))
        committed.push(`${own.oid}/${own.generation} ${String(row?.[0])}`);
    },
    reached: () => {},
    halted: ({ table: failed, reason }) => assert.fail(`${failed.name}: ${reason}`),
  });
  const change = (...wanted: StreamTable[]) => {
    const oids = changeTables(tables, new Map(wanted.map((each) => [each.oid, each])));
    reader.tablesChanged(oids);
    return oids;
  };
  return { reader, tables, committed, change };
}

test("a table that comes while the stream runs gets its changes from its cut on, whenever the server told of it", () => {
  const { reader, tables, committed, change } = reading(table(1, lsnOf(0)));
  feed(reader, [message.relation(sent), message.relation(other)]);
  feed(reader, [message.begin(10n), message.insert(1, ["a", ""]), message.insert(2, ["too early", ""])]);
  change(table(1, lsnOf(0)), table(2, "unknown"));
  feed(reader, [message.insert(2, ["still too early", ""]), message.insert(1, ["b", ""]), message.commit(10n)]);
  tables.get(2)!.cut = lsnOf(20);
  feed(reader, [message.begin(19n), message.insert(2, ["below", ""]), message.commit(19n)]);
  feed(reader, [message.begin(20n), message.insert(2, ["counts", ""]), message.commit(20n)]);
  assert.deepEqual(committed, ["1/1 a", "1/1 b", "2/1 counts"]);
});

test("a table that goes gets nothing more, also of what is under way, and can come back", () => {
  const gone = table(2, lsnOf(0));
  const { reader, tables, committed, change } = reading(table(1, lsnOf(0)), gone);
  feed(reader, [message.relation(sent), message.relation(other)]);
  feed(reader, [message.begin(10n), message.insert(1, ["a", ""])]);
  change(table(1, lsnOf(0)));
  assert.equal(gone.cut, "unknown");
  feed(reader, [message.insert(2, ["gone", ""]), message.commit(10n)]);
  change(table(1, lsnOf(0)), table(2, "unknown", { generation: 2 }));
  tables.get(2)!.cut = lsnOf(30);
  feed(reader, [message.begin(30n), message.insert(2, ["back", ""]), message.commit(30n)]);
  assert.deepEqual(committed, ["1/1 a", "2/2 back"]);
});

test("a table that begins anew is another one: what was read for the old generation stays with it", () => {
  const old = table(1, lsnOf(0));
  const { reader, committed, tables, change } = reading(old);
  feed(reader, [message.relation(sent), message.begin(10n), message.insert(1, ["old", ""])]);
  change(table(1, "unknown", { generation: 2 }));
  assert.equal(old.cut, "unknown");
  feed(reader, [message.insert(1, ["dropped", ""]), message.commit(10n)]);
  tables.get(1)!.cut = lsnOf(20);
  feed(reader, [message.begin(20n), message.insert(1, ["new", ""]), message.commit(20n)]);
  assert.deepEqual(committed, ["1/1 old", "1/2 new"]);
});

test("what is known by others later than by the stream itself changes nothing of it", () => {
  const live = table(1, lsnOf(20), { generation: 3 });
  const { tables, change } = reading(live);
  assert.equal(change(table(1, "unknown", { generation: 2 })).size, 0);
  assert.equal(change(table(1, "unknown", { generation: 3, exactOnly: true })).size, 0);
  assert.equal(tables.get(1), live);
  assert.deepEqual([live.cut, live.generation, live.exactOnly], [lsnOf(20), 3, true]);
});

test("a table that goes on keeps its definition: another one begins at a place in the log", () => {
  const live = table(1, lsnOf(20));
  const { tables, change } = reading(live);
  assert.equal(change(table(1, lsnOf(20), { schemaVersion: 2 })).size, 0);
  assert.equal(tables.get(1), live);
});

test("a table that was dropped and made anew under its name has another relation", () => {
  const { tables, change } = reading(table(1, lsnOf(20)));
  const oids = change(table(9, "unknown", { tableId: 1, generation: 2 }));
  assert.deepEqual([...oids], [1, 9]);
  assert.deepEqual([...tables.keys()], [9]);
});
