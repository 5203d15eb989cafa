import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "../base/log.ts";
import { KeptAnswer } from "./kept-answer.ts";

const FOREVER_MS = 600_000;

test("many who ask at once, and later ones within the time, get one answer", async () => {
  let asked = 0;
  const ask = async () => ++asked;
  const kept = new KeptAnswer({ ask, keepMs: FOREVER_MS, waitMs: FOREVER_MS, log: silentLog });
  assert.deepEqual(await Promise.all([kept.get(), kept.get(), kept.get()]), [1, 1, 1]);
  assert.equal(await kept.get(), 1);
  const fresh = new KeptAnswer({ ask, keepMs: -1, waitMs: FOREVER_MS, log: silentLog });
  assert.deepEqual([await fresh.get(), await fresh.get()], [2, 3]);
});

test("a failure is no answer, and is not repeated by each who asks", async () => {
  let asked = 0;
  const ask = () => Promise.reject(new Error(`failure ${++asked}`));
  const kept = new KeptAnswer({ ask, keepMs: FOREVER_MS, waitMs: FOREVER_MS, log: silentLog });
  assert.deepEqual([await kept.get(), await kept.get(), asked], [null, null, 1]);
});

test("who asks does not wait for an answer that takes too long; the question is not asked twice meanwhile", async () => {
  let asked = 0;
  const { promise, resolve } = Promise.withResolvers<string>();
  const ask = () => {
    asked++;
    return promise;
  };
  const kept = new KeptAnswer({ ask, keepMs: FOREVER_MS, waitMs: 1, log: silentLog });
  assert.deepEqual([await kept.get(), await kept.get(), asked], [null, null, 1]);
  resolve("late");
  await promise;
  assert.deepEqual([await kept.get(), asked], ["late", 1]);
});
