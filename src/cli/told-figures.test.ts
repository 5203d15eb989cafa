import assert from "node:assert/strict";
import { test } from "node:test";
import { lsn } from "../base/lsn.ts";
import type { Stream } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import type { SourceStatus } from "./source-status.ts";
import { streamFigure, tableLag } from "./told-figures.ts";

const stream = { stream: 1, owner: "w", position: lsn(1000n) } as unknown as Stream;
const table = (tableId: number, state = "streaming") => ({ tableId, stream: 1, state }) as unknown as Table;
const source = { walPosition: lsn(5000n) } as unknown as SourceStatus;
const told = (figures: object, alive = true) => [{ id: "w", alive, figures: { streams: [{ stream: 1, ...figures }] } }];
const unknown = { lagBytes: null, lagMs: null };

test("a table that lags is behind from the position on, another one only by what is not read", () => {
  const workers = told({ reached: "4000", lagMs: 900, lagging: { 7: 300 }, laggingCount: 1 });
  assert.deepEqual(tableLag(table(7), [stream], workers, source), { lagBytes: 4000, lagMs: 300 });
  assert.deepEqual(tableLag(table(8), [stream], workers, source), { lagBytes: 1000, lagMs: 0 });
  assert.deepEqual(tableLag(table(8), [stream], workers, null), { lagBytes: null, lagMs: 0 });
});

test("one that is not named among too many may lag as much as its stream", () => {
  const workers = told({ reached: "4000", lagMs: 900, lagging: { 7: 300 }, laggingCount: 2 });
  assert.deepEqual(tableLag(table(8), [stream], workers, source), { lagBytes: 4000, lagMs: 900 });
});

test("what nobody tells is not known", () => {
  const workers = told({ reached: "4000", lagging: {}, laggingCount: 0 });
  for (const state of ["pending", "copying", "error", "copied"]) {
    assert.deepEqual(tableLag(table(7, state), [stream], workers, source), unknown, state);
  }
  assert.deepEqual(
    tableLag(table(7), [stream], told({ lagging: {}, laggingCount: 0 }, false), source),
    unknown,
    "dead",
  );
  assert.deepEqual(tableLag(table(7), [stream], told({}), source), unknown, "another version");
  assert.deepEqual(tableLag(table(7), [], workers, source), unknown);
  for (const figures of [null, "x", { streams: 1 }, { streams: [null] }, { streams: [{ stream: 2, lagMs: 1 }] }]) {
    assert.equal(streamFigure(figures, 1, "lagMs"), null);
  }
});
