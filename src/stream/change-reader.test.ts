// Which changes count: by position, by each table's cut, by what the server says of a relation.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  feed,
  lsnOf,
  message,
  netRows,
  type SentRelation,
  type Tuple,
  textTable,
  UNCHANGED,
} from "../../test/support/stream-log.ts";
import { PgFloError } from "../base/errors.ts";
import { ChangeReader } from "./change-reader.ts";
import type { StreamTable, TableCut } from "./stream-table.ts";

const columns = ["id", "v"];
const sent: SentRelation = { oid: 1, columns, replicaIdentity: "d" };
const other: SentRelation = { ...sent, oid: 2 };

function table(oid: number, cut: TableCut): StreamTable {
  return textTable(oid, columns, { kind: "key", columns: ["id"] }, cut);
}

interface Read {
  readonly reader: ChangeReader;
  /** Rows by commit LSN, as table OID and first value. */
  readonly committed: [lsn: bigint, ...rows: string[]][];
  readonly reached: bigint[];
  readonly failed: [oid: number, reason: string][];
}

function reading(tables: readonly StreamTable[], position = 0): Read {
  const read: Omit<Read, "reader"> = { committed: [], reached: [], failed: [] };
  const reader = new ChangeReader(new Map(tables.map((each) => [each.oid, each])), lsnOf(position), {
    committed: ({ store, commitLsn }) => read.committed.push([commitLsn, ...netRows(store).map(shown)]),
    reached: (lsn) => read.reached.push(lsn),
    halted: (misfit) => read.failed.push([misfit.table.oid, misfit.reason]),
  });
  return { reader, ...read };
}

function shown({ table: { oid }, operation, row, old }: ReturnType<typeof netRows>[number]): string {
  const cells = (row ?? old ?? []).map((cell) => (cell === UNCHANGED ? "unchanged" : cell));
  return [oid, operation, ...cells].join(" ");
}

function transaction(lsn: bigint, ...changes: number[][]): number[][] {
  return [message.begin(lsn), ...changes, message.commit(lsn)];
}

const insert = (oid: number, ...row: Tuple): number[] => message.insert(oid, row);
const isViolation = (error: unknown): boolean => error instanceof PgFloError && error.code === "PROTOCOL_VIOLATION";

test("transactions up to the position are skipped, those after it are read", () => {
  const { reader, committed, reached } = reading([table(1, lsnOf(0))], 20);
  feed(reader, [message.relation(sent)]);
  for (const lsn of [10n, 20n, 21n]) feed(reader, transaction(lsn, insert(1, String(lsn), "v")));
  assert.deepEqual(committed, [[21n, "1 INSERT 21 v"]]);
  assert.deepEqual(reached, [25n]);
});

test("a transaction without changes for us still moves what is reached, up to before its end", () => {
  const { reader, committed, reached } = reading([]);
  feed(reader, transaction(10n));
  assert.deepEqual([committed, reached], [[], [14n]]);
});

test("each table's changes count from its own cut on: below it they are dropped, at it they are kept", () => {
  const { reader, committed } = reading([table(1, lsnOf(20)), table(2, lsnOf(30))]);
  feed(reader, [message.relation(sent), message.relation(other)]);
  for (const lsn of [19n, 20n, 29n, 30n]) feed(reader, transaction(lsn, insert(1, "a", "v"), insert(2, "b", "v")));
  assert.deepEqual(committed, [
    [20n, "1 INSERT a v"],
    [29n, "1 INSERT a v"],
    [30n, "1 INSERT a v", "2 INSERT b v"],
  ]);
});

test("changes of a table whose cut is unknown are dropped", () => {
  const { reader, committed } = reading([table(1, "unknown")]);
  feed(reader, [message.relation(sent), ...transaction(10n, insert(1, "a", "v"))]);
  assert.deepEqual([committed, reader.holding], [[], false]);
});

test("changes of an awaited table are held as they were, apart from those of the others", () => {
  const awaited = table(1, "awaited");
  const { reader, committed } = reading([awaited, table(2, lsnOf(0))]);
  feed(reader, [message.relation(sent), message.relation(other)]);
  for (const lsn of [10n, 20n, 30n]) {
    feed(reader, transaction(lsn, insert(1, `a${lsn}`, "v"), insert(2, "b", "v")));
    reader.releaseCommitted();
  }
  assert.deepEqual(
    committed.map(([lsn, ...rows]) => [lsn, rows]),
    [10n, 20n, 30n].map((lsn) => [lsn, ["2 INSERT b v"]]),
  );
  assert.equal(reader.holding, true);
  const held = reader.takeHeld();
  assert.deepEqual(
    held.map(({ commitLsn, store }) => [commitLsn, ...netRows(store).map(shown)]),
    [10n, 20n, 30n].map((lsn) => [lsn, `1 INSERT a${lsn} v`]),
  );
  assert.deepEqual([reader.takeHeld(), reader.holding], [[], false]);
});

test("a table begins to be awaited in the middle of a transaction, which comes before every cut still to come", () => {
  const late = table(1, "unknown");
  const { reader } = reading([late]);
  feed(reader, [message.relation(sent), message.begin(10n), insert(1, "a", "v")]);
  late.cut = "awaited";
  feed(reader, [insert(1, "b", "v"), message.commit(10n), ...transaction(20n, insert(1, "c", "v"))]);
  const held = reader.takeHeld().filter(({ commitLsn }) => commitLsn >= 15n);
  assert.deepEqual(
    held.map(({ store }) => netRows(store).map(shown)),
    [["1 INSERT c v"]],
  );
});

test("what is held can be forgotten, also in the middle of a transaction", () => {
  const { reader } = reading([table(1, "awaited")]);
  feed(reader, [message.relation(sent), ...transaction(10n, insert(1, "a", "v")), message.begin(20n)]);
  feed(reader, [insert(1, "b", "v")]);
  reader.forgetHeld();
  reader.heldArena.reset();
  assert.equal(reader.holding, false);
  feed(reader, [insert(1, "c", "v"), message.commit(20n), ...transaction(30n, insert(1, "d", "v"))]);
  assert.deepEqual(
    reader.takeHeld().map(({ store }) => netRows(store).map(shown)),
    // The open one's come whole: it is before every cut to come, too.
    [["1 INSERT b v", "1 INSERT c v"], ["1 INSERT d v"]],
  );
});

test("relations that are not mirrored are passed over", () => {
  const { reader, committed } = reading([table(1, lsnOf(0))]);
  const foreign: SentRelation = { oid: 9, columns: ["x", "y", "z"], replicaIdentity: "n" };
  feed(reader, [message.relation(foreign), message.relation(sent)]);
  const changes = [insert(9, "1", "2", "3"), message.truncate(9, 1), insert(1, "a", "v"), insert(9, "4", "5", "6")];
  feed(reader, transaction(10n, ...changes));
  assert.deepEqual(committed, [[10n, "1 TRUNCATE", "1 INSERT a v"]]);
});

test("a relation that the server tells again stays one relation, and columns that come and go are not mixed up", () => {
  const { reader, committed } = reading([table(1, lsnOf(0))]);
  const wide = message.relation({ ...sent, columns: ["secret", "v", "more", "id"] });
  feed(reader, [
    message.relation(sent),
    message.begin(10n),
    insert(1, "a", "v1"),
    message.relation(sent),
    message.update(1, ["a", "v2"]),
    wide,
    message.update(1, ["s", "v3", "m", "a"]),
    insert(1, "s", "w", "m", "b"),
    message.relation(sent),
    message.delete(1, "K", ["b", null]),
    message.commit(10n),
  ]);
  assert.deepEqual(committed, [[10n, "1 INSERT a v3"]]);
});

test("a generated column that the server does not send is NULL", () => {
  const generated = table(1, lsnOf(0));
  const [id, v] = generated.columns;
  const mapped = { ...generated, columns: [id!, { ...v!, source: { ...v!.source, generated: "s" as const } }] };
  const { reader, committed, failed } = reading([mapped]);
  feed(reader, [message.relation({ ...sent, columns: ["id"] }), ...transaction(10n, insert(1, "a"))]);
  assert.deepEqual([committed, failed], [[[10n, "1 INSERT a "]], []]);
});

test("TRUNCATE counts whether its relation was told just before or long ago", () => {
  const { reader, committed } = reading([table(1, lsnOf(0)), table(2, lsnOf(0))]);
  feed(reader, [message.relation(sent), ...transaction(10n, message.truncate(1))]);
  feed(reader, [message.begin(20n), message.relation(other), message.truncate(1, 2), message.commit(20n)]);
  assert.deepEqual(committed, [
    [10n, "1 TRUNCATE"],
    [20n, "1 TRUNCATE", "2 TRUNCATE"],
  ]);
});

for (const [what, relation, reason] of [
  ["a mirrored column is gone", { ...sent, columns: ["id"] }, /"v" is gone/],
  [
    "a column has another type",
    { ...sent, types: new Map([["v", { typeOid: 23, typmod: -1 }]]) },
    /"v" has another type/,
  ],
  ["the replica identity became FULL", { ...sent, replicaIdentity: "f" }, /replica identity/],
  ["the identity is not published", { ...sent, columns: ["v"] }, /"id" is gone|"id" is not published/],
] as const) {
  test(`${what}: nothing of a transaction with a change that counts is taken, nor what comes after it`, () => {
    const changed = table(1, lsnOf(20));
    const { reader, committed, failed, reached } = reading([changed, table(2, lsnOf(0))]);
    const row = relation.columns.map(() => "x");
    feed(reader, [message.relation(relation), message.relation(other)]);
    feed(reader, transaction(10n, insert(1, ...row), insert(2, "b", "v")));
    assert.deepEqual(failed, [], "below the cut it does not count");
    feed(reader, transaction(20n, insert(1, ...row), insert(1, ...row), insert(2, "b", "v")));
    feed(reader, [...transaction(30n, insert(1, ...row)), message.relation(sent)]);
    feed(reader, transaction(40n, insert(1, "a", "v"), insert(2, "b", "v")));
    assert.equal(failed.length, 1);
    assert.equal(failed[0]![0], 1);
    assert.match(failed[0]![1], reason);
    assert.deepEqual(
      committed.map(([lsn, ...rows]) => [lsn, rows]),
      [[10n, ["2 INSERT b v"]]],
    );
    assert.ok(reached.every((lsn) => lsn < 20n) && reader.inTransaction, "nobody may think that it was passed");
  });
}

test("the bytes of committed transactions are given back also in the middle of an open one", () => {
  const { reader, committed } = reading([table(1, lsnOf(0))]);
  feed(reader, [message.relation(sent)]);
  for (let i = 1; i <= 500; i++) {
    feed(reader, [...transaction(BigInt(i * 10), insert(1, "a", "v".repeat(5000))), message.begin(BigInt(i * 10 + 1))]);
    feed(reader, [insert(1, `open ${i}`, "v"), insert(1, "gone", "v"), message.delete(1, "K", ["gone", null])]);
    reader.releaseCommitted();
    reader.releaseCommitted();
    assert.ok(reader.arena.length < 200);
    feed(reader, [message.commit(BigInt(i * 10 + 1))]);
    assert.deepEqual(committed.at(-1)!.slice(1), [`1 INSERT open ${i} v`]);
  }
});

test("what cannot come in a well-formed log is a protocol violation", () => {
  const begin = message.begin(10n);
  const wrong: [string, number[][]][] = [
    ["a change outside of a transaction", [insert(1, "a", "v")]],
    ["a truncate outside of a transaction", [message.truncate(1)]],
    ["a commit without a begin", [message.commit(10n)]],
    ["a begin inside of a transaction", [begin, begin]],
    ["a commit at another place than announced", [begin, message.commit(11n)]],
    ["a change of a relation that was not described", [begin, insert(3, "a")]],
    ["a tuple with a column too few", [begin, insert(1, "a")]],
    ["a tuple with a column too many", [begin, insert(1, "a", "v", "w")]],
    ["an old tuple with a column too few", [begin, message.update(1, ["a", "v"], { kind: "K", tuple: ["a"] })]],
    ["a delete with a column too many", [begin, message.delete(1, "K", ["a", "b", "c"])]],
    ["a stream block inside of a transaction", [begin, message.streamStart(1, true)]],
    ["a transaction inside of a stream block", [message.streamStart(1, true), begin]],
    ["a commit of what was not streamed", [message.streamCommit(1, 10n)]],
    ["a commit inside of its block", [message.streamStart(1, true), message.streamCommit(1, 10n)]],
    ["an abort inside of a block", [message.streamStart(1, true), message.streamAbort(1, 1)]],
  ];
  for (const [what, messages] of wrong) {
    const { reader } = reading([table(1, lsnOf(0))]);
    assert.throws(() => feed(reader, [message.relation(sent), ...messages]), isViolation, what);
  }
});

test("damaged, cut and random messages end in rows or in a protocol violation", () => {
  const whole = [
    message.relation(sent),
    message.begin(10n),
    insert(1, "a", "v"),
    message.update(1, ["b", "v"], { kind: "K", tuple: ["a", null] }),
    message.delete(1, "K", ["b", null]),
    message.truncate(1, 1),
    message.commit(10n),
  ];
  const damaged = fc.record({
    order: fc.array(fc.nat(whole.length - 1), { maxLength: 20 }),
    changes: fc.array(fc.tuple(fc.nat(20), fc.nat(60), fc.nat(255)), { maxLength: 6 }),
    cut: fc.option(fc.nat(40)),
    random: fc.array(fc.uint8Array({ minLength: 1, maxLength: 30 }), { maxLength: 2 }),
  });
  fc.assert(
    fc.property(damaged, ({ order, changes, cut, random }) => {
      const messages = [...whole.slice(0, 2), ...order.map((index) => whole[index]!)].map((each) => [...each]);
      for (const [number, at, byte] of changes) {
        const target = messages[number % messages.length]!;
        target[at % target.length] = byte;
      }
      if (cut !== null) messages.at(-1)!.splice(cut);
      const { reader } = reading([table(1, lsnOf(0)), table(2, lsnOf(0))]);
      for (const body of [...messages, ...random]) {
        const bytes = Uint8Array.from(body);
        try {
          reader.parse(bytes, new DataView(bytes.buffer), 0, bytes.length);
        } catch (error) {
          assert.ok(isViolation(error), String(error));
          return;
        }
      }
    }),
    { numRuns: 5000, examples: [[{ order: [3, 3, 6], changes: [[2, 44, 0x75]], cut: null, random: [] }]] },
  );
});
