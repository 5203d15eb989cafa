// Which files are merged, and up to where changes are folded.
import assert from "node:assert/strict";
import { test } from "node:test";
import { lsn } from "../base/lsn.ts";
import type { ManifestFile } from "../metadata/files.ts";
import { foldIsDue, foldPlan, mergeLimits, mergeRuns } from "./plan.ts";

const DAY_MS = 86_400_000;
const NOW = new Date("2026-06-01T00:00:00Z");

function stream(batch: number, more: Partial<ManifestFile> = {}): ManifestFile {
  const file = {
    fileId: batch,
    kind: "stream",
    stream: 1,
    batchId: BigInt(batch),
    path: `s${batch}`,
    schemaVersion: 1,
  } as const;
  const at = { lsnStart: lsn(BigInt(batch) * 100n), lsnEnd: lsn(BigInt(batch) * 100n + 50n), createdAt: NOW };
  return { ...file, ...at, rowCount: 1, sizeBytes: 10, checksum: "", ...more };
}

function copy(id: number, more: Partial<ManifestFile> = {}): ManifestFile {
  const at = { lsnStart: lsn(1n), lsnEnd: lsn(1n) };
  return { ...stream(id), kind: "copy", batchId: null, path: `c${id}`, ...at, ...more };
}

const limits = mergeLimits(800, 2); // small: below 100
const paths = (runs: readonly (readonly ManifestFile[])[]) => runs.map((run) => run.map(({ path }) => path).join(" "));

test("small files that follow each other are one run, up to a whole file", () => {
  assert.deepEqual(paths(mergeRuns([stream(3), stream(1), stream(2)], limits)), ["s1 s2 s3"]);
  const many = Array.from({ length: 20 }, (_, n) => stream(n + 1, { sizeBytes: 90 }));
  const runs = mergeRuns(many, limits);
  assert.deepEqual(
    runs.map((run) => run.length),
    [8, 8, 4],
  );
  assert.deepEqual(paths(mergeRuns([stream(1)], limits)), []);
  assert.deepEqual(paths(mergeRuns([], limits)), []);
});

test("few small files wait for more, unless the merged one is no small file any more", () => {
  const eight = mergeLimits(800, 8);
  const files = (count: number, sizeBytes: number) =>
    Array.from({ length: count }, (_, n) => stream(n + 1, { sizeBytes }));
  assert.equal(mergeRuns(files(7, 10), eight).length, 0);
  assert.equal(mergeRuns(files(8, 10), eight).length, 1);
  assert.equal(mergeRuns(files(2, 60), eight).length, 1);
});

test("large files, other schema versions, and batches that are not all small end a run", () => {
  const large = stream(3, { sizeBytes: 100 });
  assert.deepEqual(paths(mergeRuns([stream(1), stream(2), large, stream(4), stream(5)], limits)), ["s1 s2", "s4 s5"]);
  const altered = [3, 4].map((batch) => stream(batch, { schemaVersion: 2 }));
  assert.deepEqual(paths(mergeRuns([stream(1), stream(2), ...altered], limits)), ["s1 s2", "s3 s4"]);
  // The rest of a large transaction, which is in two files.
  const rest = stream(3, { fileId: 30, path: "rest", lsnStart: large.lsnEnd, lsnEnd: large.lsnEnd });
  assert.deepEqual(paths(mergeRuns([stream(1), large, rest, stream(4)], limits)), []);
  const two = [stream(2), stream(2, { fileId: 20, path: "more", lsnStart: lsn(260n), lsnEnd: lsn(280n) })];
  assert.deepEqual(paths(mergeRuns([stream(1), ...two, stream(3)], limits)), ["s1 s2 more s3"]);
  const mixed = [stream(2), stream(2, { fileId: 20, path: "altered", schemaVersion: 2 })];
  assert.deepEqual(paths(mergeRuns([stream(1), ...mixed, stream(3)], limits)), []);
});

test("what completes a resumed copy is not merged, and no base is before it", () => {
  const completing = stream(3, { fileId: 99, path: "completing", lsnStart: lsn(207n), lsnEnd: lsn(207n) });
  assert.deepEqual(paths(mergeRuns([stream(1), stream(2), completing, stream(3)], limits)), ["s1 s2 s3"]);
  const old = { createdAt: new Date(NOW.getTime() - DAY_MS) };
  const plan = (at: bigint) => {
    const late = { ...completing, lsnStart: lsn(at), lsnEnd: lsn(at) };
    return foldPlan([stream(1, old), stream(2, old), late, stream(3)], NOW)?.files.map(({ path }) => path);
  };
  assert.deepEqual(plan(207n), ["s1", "s2", "completing"]);
  assert.equal(plan(255n), undefined);
});

test("copy files are merged whatever lies between them, never with stream files", () => {
  const copies = [copy(1), copy(2, { sizeBytes: 500 }), copy(3), copy(4, { schemaVersion: 2 })];
  assert.deepEqual(paths(mergeRuns([...copies, stream(5), stream(6)], limits)), ["c1 c3", "s5 s6"]);
});

test("a base is the end of the last batch that is older than the history, and not before any copy", () => {
  const old = new Date(NOW.getTime() - 40 * DAY_MS);
  const before = new Date(NOW.getTime() - 30 * DAY_MS);
  const files = [copy(1), stream(2, { createdAt: old }), stream(3, { createdAt: old }), stream(4)];
  const plan = foldPlan(files, before)!;
  assert.deepEqual([plan.base, plan.files.map(({ path }) => path), plan.spanning], [350n, ["c1", "s2", "s3"], []]);
  assert.equal(foldPlan([copy(1), stream(4)], before), null);
  assert.equal(foldPlan([copy(1)], before), null);
  // An old batch behind a young one (merged ones have the newest's age) does not count.
  assert.equal(foldPlan([stream(2), stream(3, { createdAt: old })], before), null);
  const laterCopy = copy(9, { lsnStart: lsn(351n), lsnEnd: lsn(351n) });
  assert.equal(foldPlan([...files, laterCopy], before), null);
  const across = stream(4, { lsnStart: lsn(340n), lsnEnd: lsn(450n) });
  assert.deepEqual(foldPlan([...files.slice(0, 3), across], before)!.spanning, [across]);
});

test("a fold waits until it is worth writing the copy again, but not for ever", () => {
  const aged = (days: number) => ({ createdAt: new Date(NOW.getTime() - days * DAY_MS) });
  const due = (copyBytes: number, days: number) => {
    const files = [copy(1, { sizeBytes: copyBytes }), stream(2, aged(days))];
    const plan = foldPlan(files, new Date(NOW.getTime() - 30 * DAY_MS))!;
    return foldIsDue(plan, NOW, 30 * DAY_MS);
  };
  assert.deepEqual([due(50, 31), due(51, 31), due(51, 61)], [true, false, true]);
});
