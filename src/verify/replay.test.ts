import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReplayedChange, replayTransaction } from "./replay.ts";

const change = (operation: string, identity: string, more: Partial<ReplayedChange> = {}): ReplayedChange => ({
  lsn: 1n,
  operation,
  identity,
  oldIdentity: null,
  row: JSON.stringify([identity, "new"]),
  unchanged: [],
  ...more,
});
const tableOf = (...identities: string[]) => ({
  rows: new Map(identities.map((each) => [each, JSON.stringify([each, `old ${each}`])])),
  emptied: false,
});

test("two rows that swap their keys keep the values that the log left out, whatever the order of the rows", () => {
  const moves = [
    change("UPDATE", "b", { oldIdentity: "a", row: '["b",null]', unchanged: [1] }),
    change("UPDATE", "a", { oldIdentity: "b", row: '["a",null]', unchanged: [1] }),
  ];
  for (const changes of [moves, moves.toReversed()]) {
    const table = tableOf("a", "b");
    replayTransaction(table, changes);
    assert.deepEqual(Object.fromEntries(table.rows), { a: '["a","old b"]', b: '["b","old a"]' });
  }
});

test("an image wins over the removal of its identity in one transaction", () => {
  const table = tableOf("a", "b");
  replayTransaction(table, [change("INSERT", "a"), change("DELETE", "a"), change("DELETE", "b")]);
  assert.deepEqual(Object.fromEntries(table.rows), { a: '["a","new"]' });
});

test("TRUNCATE empties the table before the images of its transaction", () => {
  const table = tableOf("a", "b");
  replayTransaction(table, [change("INSERT", "c"), change("TRUNCATE", "")]);
  assert.deepEqual([...table.rows.keys()], ["c"]);
  assert.equal(table.emptied, true);
});
