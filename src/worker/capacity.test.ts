import assert from "node:assert/strict";
import { test } from "node:test";
import { capacityNote } from "./capacity.ts";

test("what waits is told only while every worker is full", () => {
  const waiting = { streams: 2, ranges: 140 };
  assert.equal(capacityNote(waiting, 3, true), "2 streams and 140 ranges wait, 3 workers are full: add a worker");
  assert.equal(capacityNote({ streams: 0, ranges: 1 }, 1, true), "1 range waits, 1 worker is full: add a worker");
  assert.equal(capacityNote(waiting, 3, false), null);
  assert.equal(capacityNote({ streams: 0, ranges: 0 }, 3, true), null);
  assert.equal(capacityNote(waiting, 0, true), null, "that no worker runs is told otherwise");
});
