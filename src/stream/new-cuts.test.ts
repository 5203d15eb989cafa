import assert from "node:assert/strict";
import { test } from "node:test";
import { lsn } from "../base/lsn.ts";
import type { Batch } from "./batch.ts";
import type { CommittedTransaction } from "./committed-transaction.ts";
import { type CutTaker, NewCuts } from "./new-cuts.ts";
import type { SpilledTransaction } from "./spilled-transaction.ts";

/** A stream that holds one transaction, spilled or not, which cannot be brought into a batch. */
function brokenTaker(spilled: boolean): { readonly taker: CutTaker; readonly done: string[] } {
  const done: string[] = [];
  const batch = {
    encodePending: async () => {},
    abort: async () => void done.push("batch dropped"),
  } as unknown as Batch;
  const file = { release: async () => void done.push("file released") } as unknown as SpilledTransaction;
  const held = [{ commitLsn: lsn(20n), spilled: spilled ? file : null } as unknown as CommittedTransaction];
  const taker = {
    tables: new Map(),
    reader: { takeHeld: () => held, heldArena: null },
    durable: {},
    separate: () => ({ batch, position: lsn(20n) }),
    put: () => {
      throw new Error("the disk is full");
    },
    stopping: () => false,
  } as unknown as CutTaker;
  return { taker, done };
}

for (const spilled of [false, true]) {
  test(`held changes that cannot be put end the stream and whoever waits for the cut (spilled: ${spilled})`, async () => {
    const { taker, done } = brokenTaker(spilled);
    const cuts = new NewCuts(taker);
    const stored = assert.rejects(cuts.add([], lsn(10n)), /the disk is full/);
    await assert.rejects(async () => cuts.take(), /the disk is full/);
    await stored;
    assert.deepEqual(done, spilled ? ["batch dropped", "file released"] : []);
  });
}
