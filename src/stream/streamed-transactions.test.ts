// Transactions that are streamed while they run: what counts of them is known at their COMMIT only.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";
import {
  committedRows,
  feed,
  lsnOf,
  message,
  type NetRow,
  netRows,
  type SentRelation,
  type Tuple,
  textTable,
} from "../../test/support/stream-log.ts";
import { ChangeReader } from "./change-reader.ts";
import type { CommittedTransaction } from "./committed-transaction.ts";
import type { StreamTable, TableCut } from "./stream-table.ts";

const columns = ["id", "v"];
const sent: SentRelation = { oid: 1, columns, replicaIdentity: "d" };
const other: SentRelation = { ...sent, oid: 2 };
const changed: SentRelation = { ...sent, columns: ["v", "extra", "id"] };

function table(oid: number, cut: TableCut): StreamTable {
  return textTable(oid, columns, { kind: "key", columns: ["id"] }, cut);
}

function reading(tables: readonly StreamTable[], position = 0) {
  const committed: [lsn: bigint, ...rows: string[]][] = [];
  const large: CommittedTransaction[] = [];
  const reached: bigint[] = [];
  const failed: [oid: number, reason: string][] = [];
  const reader = new ChangeReader(new Map(tables.map((each) => [each.oid, each])), lsnOf(position), {
    committed: (transaction) => {
      if (transaction.spilled) large.push(transaction);
      else committed.push([transaction.commitLsn, ...netRows(transaction.store).map(shown)]);
    },
    reached: (lsn) => reached.push(lsn),
    halted: (misfit) => failed.push([misfit.table.oid, misfit.reason]),
  });
  return { reader, committed, large, reached, failed };
}

function shown({ table: { oid }, operation, row, old }: NetRow): string {
  return [oid, operation, ...((row ?? old ?? []) as string[])].join(" ");
}

const insert = (oid: number, ...row: Tuple): number[] => message.insert(oid, row);

/** A block; each change may name its subtransaction. */
function block(xid: number, ...changes: (number[] | [subXid: number, change: number[]])[]): number[][] {
  const body = (change: number[] | [number, number[]]) =>
    Array.isArray(change[1])
      ? message.streamed(change[0] as number, change[1])
      : message.streamed(xid, change as number[]);
  return [message.streamStart(xid, true), ...changes.map(body), message.streamStop()];
}

const spill = { folder: tmpdir(), partBits: 2, memoryBytes: 1_000_000 };

test("interleaved transactions come out whole at their commits, aborted ones never", () => {
  const { reader, committed, reached } = reading([table(1, lsnOf(0))]);
  feed(reader, block(7, message.relation(sent), insert(1, "a", "7")));
  feed(reader, block(8, message.relation(sent), insert(1, "b", "8")));
  feed(reader, block(9, message.relation(sent), insert(1, "c", "9")));
  feed(reader, block(7, insert(1, "d", "7")));
  assert.equal(reader.openCount, 3);
  feed(reader, [message.streamAbort(8, 8), message.streamCommit(9, 10n)]);
  feed(reader, [message.begin(15n), message.relation(sent), insert(1, "e", "-"), message.commit(15n)]);
  feed(reader, [...block(7, insert(1, "f", "7")), message.streamCommit(7, 20n)]);
  assert.deepEqual(committed, [
    [10n, "1 INSERT c 9"],
    [15n, "1 INSERT e -"],
    [20n, "1 INSERT a 7", "1 INSERT d 7", "1 INSERT f 7"],
  ]);
  assert.deepEqual([reached, reader.openCount, reader.openBytes], [[14n, 19n, 24n], 0, 0]);
});

test("an abort of a transaction of which nothing came is none of ours", () => {
  const { reader, committed } = reading([table(1, lsnOf(0))]);
  feed(reader, [message.streamAbort(5, 5), message.streamAbort(5, 6)]);
  assert.deepEqual(committed, []);
});

test("changes of aborted subtransactions vanish, also when they were spilled", async () => {
  for (const spilling of [false, true]) {
    const { reader, committed, large } = reading([table(1, lsnOf(0))]);
    feed(reader, block(7, message.relation(sent), insert(1, "a", "1"), [70, insert(1, "b", "2")]));
    if (spilling) assert.equal(await reader.spillLargest(spill), true);
    feed(reader, [message.streamAbort(7, 70)]);
    feed(reader, block(7, message.relation(sent), [71, insert(1, "b", "3")], [72, message.truncate(1)]));
    if (spilling) assert.equal(await reader.spillLargest(spill), true);
    feed(reader, [message.streamAbort(7, 72), message.streamCommit(7, 10n)]);
    for (const transaction of large) {
      committed.push([transaction.commitLsn, ...(await committedRows(transaction)).map(shown).sort()]);
    }
    assert.deepEqual(committed, [[10n, "1 INSERT a 1", "1 INSERT b 3"]]);
  }
});

test("a transaction that commits up to the position was durable before", async () => {
  const { reader, committed, large, reached } = reading([table(1, lsnOf(0))], 20);
  feed(reader, [...block(7, message.relation(sent), insert(1, "a", "1")), message.streamCommit(7, 20n)]);
  feed(reader, block(8, message.relation(sent), insert(1, "a", "1")));
  await reader.spillLargest(spill);
  feed(reader, [message.streamCommit(8, 10n)]);
  assert.deepEqual([committed, large, reached], [[], [], []]);
  const discarded = reader.takeDiscarded();
  assert.equal(discarded.length, 1);
  await discarded[0]!.release();
});

test("each table's cut decides when the transaction commits, whatever it was before", async () => {
  for (const spilling of [false, true]) {
    const [early, late, awaited] = [table(1, "unknown"), table(2, lsnOf(30)), table(3, "unknown")];
    const { reader, committed, large } = reading([early, late, awaited]);
    const changes = [insert(1, "a", "1"), insert(2, "b", "2"), insert(3, "c", "3")];
    const relations = [message.relation(sent), message.relation(other), message.relation({ ...sent, oid: 3 })];
    feed(reader, [...block(7, ...relations, ...changes), ...block(8, ...relations, ...changes)]);
    while (spilling && (await reader.spillLargest(spill)));
    early.cut = lsnOf(5);
    awaited.cut = "awaited";
    for (const [xid, lsn] of [
      [7, 10n],
      [8, 30n],
    ] as const) {
      feed(reader, [message.streamCommit(xid, lsn)]);
      for (const each of large.splice(0)) committed.push([lsn, ...(await committedRows(each)).map(shown).sort()]);
    }
    assert.deepEqual(committed, [
      [10n, "1 INSERT a 1"],
      [30n, "1 INSERT a 1", "2 INSERT b 2"],
    ]);
    assert.equal(reader.holding, true);
    assert.equal(reader.holdingSpilled, spilling);
    const held = reader.takeHeld();
    assert.deepEqual(
      held.map(({ commitLsn }) => commitLsn),
      [10n, 30n],
    );
    for (const each of held) assert.deepEqual((await committedRows(each)).map(shown), ["3 INSERT c 3"]);
  }
});

test("a relation that is told in a stream is the transaction's own until it commits, then everybody's", () => {
  const { reader, committed } = reading([table(1, lsnOf(0))]);
  const wide = insert(1, "1", "x", "a");
  const narrow = insert(1, "b", "2");
  const plain = (lsn: bigint, ...changes: number[][]) =>
    feed(reader, [message.begin(lsn), ...changes, message.commit(lsn)]);
  plain(5n, message.relation(sent), narrow);
  // Two that change it, one after the other as their locks want it; the first one is aborted.
  feed(reader, block(7, message.relation(changed), wide));
  plain(10n, narrow);
  feed(reader, [message.streamAbort(7, 7)]);
  feed(reader, block(8, narrow, message.relation(changed), wide));
  plain(20n, narrow);
  feed(reader, [message.streamCommit(8, 30n)]);
  plain(40n, wide);
  // A subtransaction that changed it back and is aborted: the server tells it again to whom it concerns.
  feed(reader, [...block(9, message.relation(changed), wide, [90, message.relation(sent)], [90, narrow])]);
  feed(reader, [message.streamAbort(9, 90), message.streamCommit(9, 50n)]);
  plain(60n, wide);
  const own = (lsn: bigint, ...rows: string[]) => [lsn, ...rows.map((row) => `1 INSERT ${row}`)];
  assert.deepEqual(committed, [
    own(5n, "b 2"),
    own(10n, "b 2"),
    own(20n, "b 2"),
    own(30n, "b 2", "a 1"),
    own(40n, "a 1"),
    own(50n, "a 1"),
    own(60n, "a 1"),
  ]);
});

test("a definition that does not fit stops the stream before it, but only when its changes count", () => {
  const broken = { ...sent, columns: ["id"] };
  const one = insert(1, "a");
  const attempts: [what: string, messages: number[][], fails: boolean][] = [
    ["aborted", [...block(7, message.relation(broken), one), message.streamAbort(7, 7)], false],
    ["partly", [...block(7, [70, message.relation(broken)], [70, one]), message.streamAbort(7, 70)], false],
    ["durable", [...block(7, message.relation(broken), one), message.streamCommit(7, 3n)], false],
    ["before the cut", [...block(7, message.relation(broken), one), message.streamCommit(7, 9n)], false],
    ["no change", [...block(7, message.relation(broken)), message.streamCommit(7, 10n)], false],
    ["committed", [...block(7, message.relation(broken), one), message.streamCommit(7, 10n)], true],
  ];
  for (const [what, messages, fails] of attempts) {
    const { reader, committed, failed } = reading([table(1, lsnOf(10)), table(2, lsnOf(0))], 5);
    feed(reader, [
      ...block(8, message.relation(other), message.relation(sent), insert(1, "x", "1"), insert(2, "y", "2")),
    ]);
    feed(reader, messages);
    assert.deepEqual(failed, fails ? [[1, 'column "v" is gone']] : [], what);
    feed(reader, [message.streamCommit(8, 20n)]);
    assert.deepEqual(committed, fails ? [] : [[20n, "1 INSERT x 1", "2 INSERT y 2"]], what);
  }
});

test("the largest is spilled first, until nothing is left, and what is closed is given up", async () => {
  const { reader } = reading([table(1, lsnOf(0))]);
  feed(reader, block(7, message.relation(sent), insert(1, "a", "x".repeat(20_000))));
  feed(reader, block(8, message.relation(sent), insert(1, "b", "x".repeat(50_000))));
  feed(reader, [message.begin(10n), message.relation(sent), insert(1, "c", "x".repeat(30_000))]);
  const sizes = [reader.openBytes];
  while (await reader.spillLargest(spill)) sizes.push(reader.openBytes);
  assert.equal(sizes.length, 4);
  assert.ok(sizes[0]! - sizes[1]! > 45_000, sizes.join());
  assert.ok(sizes[3]! < 40_000, sizes.join());
  reader.close();
  const discarded = reader.takeDiscarded();
  assert.equal(discarded.length, 3);
  for (const spilled of discarded) await spilled.release();
});
