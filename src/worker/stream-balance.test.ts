import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ClaimSurvey } from "../metadata/stream-claims.ts";
import { balance } from "./stream-balance.ts";

const survey = (owners: readonly (string | null)[], workers: readonly string[]): ClaimSurvey => ({
  streams: owners.map((owner, index) => ({ stream: index + 1, owner, free: owner === null })),
  workers,
});

test("one worker takes every stream, and one that joins gets its share", () => {
  assert.deepEqual(balance(survey([null, null, null], ["a"]), "a", []), { take: [1, 2, 3], handOver: [] });
  assert.deepEqual(balance(survey(["a", "a", "a"], ["a", "b"]), "a", [1, 2, 3]), { take: [], handOver: [3] });
  assert.deepEqual(balance(survey(["a", "a", null], ["a", "b"]), "b", []), { take: [3], handOver: [] });
});

test("a worker that the metadata do not count takes its share nevertheless", () => {
  assert.deepEqual(balance(survey([null, null], ["a"]), "b", []), { take: [1], handOver: [] });
});

test("a stream that is the worker's own and does not run is run again, whatever the share", () => {
  assert.deepEqual(balance(survey(["a", null], ["a", "b"]), "a", []), { take: [1], handOver: [] });
  assert.deepEqual(balance(survey(["a", "a"], ["a", "b"]), "a", [1]), { take: [2], handOver: [] });
});

test("with more workers than streams the others stand by", () => {
  assert.deepEqual(balance(survey(["a"], ["a", "b", "c"]), "b", []), { take: [], handOver: [] });
});

test("whoever moves first, workers come to rest with every stream owned and nobody with more than a fair share", () => {
  const property = fc.property(
    fc.integer({ min: 1, max: 12 }),
    fc.integer({ min: 1, max: 6 }),
    fc.array(fc.nat(5), { minLength: 12, maxLength: 12 }),
    fc.array(fc.nat(5), { minLength: 200, maxLength: 200 }),
    (streamCount, workerCount, start, order) => {
      const workers = Array.from({ length: workerCount }, (_, n) => `w${n}`);
      const owners: (string | null)[] = start.slice(0, streamCount).map((n) => (n < workerCount ? workers[n]! : null));
      const own = (worker: string) => owners.flatMap((owner, index) => (owner === worker ? [index + 1] : []));
      for (const turn of [...order, ...order]) {
        const worker = workers[turn % workerCount]!;
        const { take, handOver } = balance(survey(owners, workers), worker, own(worker));
        for (const stream of handOver) owners[stream - 1] = null;
        for (const stream of take) owners[stream - 1] = worker;
      }
      for (const worker of workers) {
        const { take, handOver } = balance(survey(owners, workers), worker, own(worker));
        assert.deepEqual([take, handOver], [[], []]);
      }
      assert.ok(owners.every((owner) => owner !== null));
      assert.ok(workers.every((worker) => own(worker).length <= Math.ceil(streamCount / workerCount)));
    },
  );
  fc.assert(property);
});
