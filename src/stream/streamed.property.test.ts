// Random transactions that the server streams while they run, their blocks interleaved, with subtransactions and aborts
// of both, spilled at random to few or many parts, with memory for a few changes only: whatever comes, each COMMIT gives
// the model's rows, every key at most once, and nothing of what was aborted.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";
import fc from "fast-check";
import {
  applyNetRows,
  committedRows,
  feed,
  lsnOf,
  message,
  type NetRow,
  sortedRows,
  type TableState,
} from "../../test/support/stream-log.ts";
import { keysOf, Server, type Statement, statement, tables } from "../../test/support/stream-model.ts";
import { ChangeReader } from "./change-reader.ts";
import type { CommittedTransaction } from "./committed-transaction.ts";
import type { StreamTable } from "./stream-table.ts";

const step = fc.oneof(
  { weight: 8, arbitrary: statement },
  { weight: 1, arbitrary: fc.constantFrom("savepoint", "release", "rollback") },
);
type Step = Statement | "savepoint" | "release" | "rollback";

const transactionOf = (steps: number) =>
  fc.record({
    steps: fc.array(step, { minLength: 1, maxLength: steps, size: "max" }),
    end: fc.constantFrom("commit", "commit", "abort"),
    streamed: fc.integer({ min: 0, max: 4 }),
    /** How many of the messages come before those of the transaction before it have ended. */
    early: fc.nat(100),
  });

interface Transaction {
  readonly steps: readonly Step[];
  readonly end: string;
  readonly streamed: number;
  readonly early: number;
}

interface Spilling {
  readonly partBits: number;
  readonly memoryBytes: number;
  readonly limitBytes: number;
  /** Every so many messages. */
  readonly every: number;
}

/** A message in a block, or one between blocks. */
interface Sent {
  readonly body: number[];
  readonly inBlock: boolean;
}

interface Prepared {
  readonly xid: number;
  readonly lsn: bigint;
  readonly streamed: boolean;
  readonly committed: boolean;
  readonly sent: Sent[];
  readonly early: number;
  /** The rows when it has ended. */
  readonly rows: ReadonlyMap<StreamTable, readonly string[]>;
}

/** Runs one transaction at the model. */
function prepare(server: Server, { steps, end, streamed, early }: Transaction, number: number): Prepared {
  const xid = number * 1000 + 3_000_000_000;
  const isStreamed = streamed > 0;
  const open: { readonly xid: number; readonly restore: () => void; readonly from: number }[] = [];
  let ended: { readonly xid: number; readonly depth: number }[] = [];
  const sent: Sent[] = [];
  let subXid = xid;
  const restoreAll = server.save();
  const take = () => {
    const current = open.at(-1)?.xid ?? xid;
    for (const body of server.log.splice(0)) {
      sent.push({ body: isStreamed ? message.streamed(current, body) : body, inBlock: true });
    }
  };
  if (isStreamed) server.describeAgain();
  take();
  for (const each of steps) {
    if (each === "savepoint") open.push({ xid: ++subXid, restore: server.save(), from: sent.length });
    else if (each === "release") {
      const released = open.pop();
      if (released) ended.push({ xid: released.xid, depth: open.length });
    } else if (each === "rollback") {
      const aborted = open.pop();
      if (!aborted) continue;
      aborted.restore();
      if (!isStreamed) sent.splice(aborted.from);
      else {
        // Those that were released into it are aborted with it.
        for (const child of ended.filter(({ depth, xid: own }) => depth > open.length && own > aborted.xid)) {
          sent.push({ body: message.streamAbort(xid, child.xid), inBlock: false });
        }
        sent.push({ body: message.streamAbort(xid, aborted.xid), inBlock: false });
      }
      ended = ended.filter(({ xid: own }) => own < aborted.xid);
      // The server forgets what it told in the transaction; outside of streaming it tells again what was invalidated.
      server.describeAgain();
    } else server.run(each);
    take();
  }
  const committed = end === "commit" || !isStreamed;
  if (!committed) restoreAll();
  const rows = new Map(
    [...server.rows].map(([table, all]) => [
      table,
      all.map(({ v, id, big, part }) => JSON.stringify([v, id, big, part])).sort(),
    ]),
  );
  return { xid, lsn: BigInt(number * 10), streamed: isStreamed, committed, sent, early, rows };
}

/** The messages of all: each in its blocks, streamed ones begun before those before them have ended. */
function* interleave(prepared: readonly Prepared[]): Generator<number[] | Prepared> {
  const next = new Map(prepared.map((each) => [each, 0]));
  const block = function* (transaction: Prepared, upTo: number): Generator<number[]> {
    const from = next.get(transaction)!;
    const pieces = transaction.sent.slice(from, upTo);
    next.set(transaction, Math.max(from, upTo));
    let inside = false;
    for (const { body, inBlock } of pieces) {
      if (inBlock && !inside) yield message.streamStart(transaction.xid, from === 0);
      if (!inBlock && inside) yield message.streamStop();
      inside = inBlock;
      yield body;
    }
    if (inside) yield message.streamStop();
  };
  for (const [index, transaction] of prepared.entries()) {
    // Pieces of those that come later.
    for (const later of prepared.slice(index + 1, index + 4)) {
      if (later.streamed) yield* block(later, Math.floor((later.sent.length * later.early) / 150));
    }
    const { xid, lsn, sent, streamed, committed } = transaction;
    if (!streamed) {
      yield message.begin(lsn, xid);
      for (const { body } of sent) yield body;
      yield message.commit(lsn);
    } else {
      yield* block(transaction, sent.length);
      // A transaction of which nothing was sent is not streamed.
      if (sent.length > 0) yield committed ? message.streamCommit(xid, lsn) : message.streamAbort(xid, xid);
    }
    yield transaction;
  }
}

function assertOncePerKey(rows: readonly NetRow[], table: StreamTable): void {
  const keys = keysOf(table);
  if (keys.length === 0) return;
  const indexes = keys.map((key) => table.columns.findIndex(({ source }) => source.name === key));
  const images = rows.flatMap(({ row }) => (row ? [JSON.stringify(indexes.map((index) => row[index]))] : []));
  assert.equal(new Set(images).size, images.length, `a key of table ${table.oid} is put twice`);
}

async function replay(transactions: readonly Transaction[], spilling: Spilling | null): Promise<void> {
  const server = new Server();
  const described = server.log.splice(0);
  const states = new Map<StreamTable, TableState>(tables.map((table) => [table, new Map()]));
  const committed: CommittedTransaction[] = [];
  const reader = new ChangeReader(new Map(tables.map((table) => [table.oid, table])), lsnOf(0), {
    committed: (transaction) => committed.push(transaction),
    reached: () => {},
    halted: ({ reason }) => assert.fail(reason),
  });
  const prepared = transactions.map((each, index) => prepare(server, each, index + 1));
  feed(reader, described);
  let count = 0;
  for (const each of [...interleave(prepared)]) {
    if (!Array.isArray(each)) {
      for (const table of tables) {
        const what: string = `table ${table.oid} after transaction ${each.xid}`;
        assert.deepEqual(sortedRows(states.get(table)!), each.rows.get(table), what);
      }
      continue;
    }
    feed(reader, [each]);
    for (const transaction of committed.splice(0)) {
      const rows = await committedRows(transaction);
      for (const table of tables) {
        const own = rows.filter((row) => row.table === table);
        assertOncePerKey(own, table);
        states.set(table, applyNetRows(table, states.get(table)!, own));
      }
    }
    reader.releaseCommitted();
    if (spilling && ++count % spilling.every === 0) {
      while (reader.openBytes > spilling.limitBytes && (await reader.spillLargest({ folder: tmpdir(), ...spilling })));
    }
    for (const spilled of reader.takeDiscarded()) await spilled.release();
  }
  assert.equal(reader.openCount, 0);
  reader.close();
  assert.deepEqual(reader.takeDiscarded(), []);
}

const spillings = fc.record({
  partBits: fc.integer({ min: 1, max: 3 }),
  memoryBytes: fc.constantFrom(600, 3000, 100_000),
  limitBytes: fc.constantFrom(0, 0, 12_000, 40_000),
  every: fc.constantFrom(1, 2, 7, 30),
});

test("streamed transactions in memory, interleaved, with aborted parts, give the rows of the server", async () => {
  const transactions = fc.array(transactionOf(30), { minLength: 1, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(transactions, (all) => replay(all, null)),
    { numRuns: 500 },
  );
});

test("spilled transactions, small ones often and large ones in parts of parts, give the rows of the server", async () => {
  const small = fc.array(transactionOf(25), { minLength: 1, maxLength: 8 });
  const large = fc.array(transactionOf(250), { minLength: 1, maxLength: 3 });
  await fc.assert(fc.asyncProperty(fc.oneof(small, large), spillings, replay), { numRuns: 300 });
});
