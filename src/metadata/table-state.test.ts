import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { TableMode } from "../config/config.ts";
import { legalFrom, next, type TableEvent, type TableState, tableStates } from "./table-state.ts";

const kinds = [
  "cutTaken",
  "rangesDone",
  "failed",
  "paused",
  "resumed",
  "configuredAgain",
  "unconfigured",
  "copyAgain",
] as const;

function tableEvent(kind: TableEvent["kind"], mode: TableMode): TableEvent {
  return kind === "cutTaken" || kind === "rangesDone" ? { kind, mode } : { kind };
}

const modes = fc.constantFrom<TableMode>("copy-and-stream", "stream-only", "copy-only");

test("a table of each mode reaches its last state through its cut and its ranges", () => {
  const path = (mode: TableMode, ...events: TableEvent["kind"][]) =>
    events.reduce<TableState | null>((state, kind) => state && next(state, tableEvent(kind, mode)), "pending");
  assert.equal(path("copy-and-stream", "cutTaken"), "copying");
  assert.equal(path("copy-and-stream", "cutTaken", "rangesDone"), "streaming");
  assert.equal(path("copy-only", "cutTaken", "rangesDone"), "copied");
  assert.equal(path("stream-only", "cutTaken"), "streaming");
  assert.equal(path("stream-only", "cutTaken", "rangesDone"), null);
});

test("a second cut, a removed table's error and a removed table's copy are refused", () => {
  assert.equal(next("copying", { kind: "cutTaken", mode: "copy-and-stream" }), null);
  assert.equal(next("streaming", { kind: "cutTaken", mode: "stream-only" }), null);
  assert.equal(next("removed", { kind: "failed" }), null);
  assert.equal(next("removed", { kind: "copyAgain" }), null);
});

test("a pause ends by resuming or by leaving the config, whatever else happens", () => {
  for (const state of tableStates) {
    assert.equal(next(state, { kind: "paused" }), state === "removed" || state === "paused" ? null : "paused");
  }
  const after = Object.fromEntries(kinds.map((kind) => [kind, next("paused", tableEvent(kind, "copy-and-stream"))]));
  assert.deepEqual(
    Object.entries(after).filter(([, state]) => state !== null),
    [
      ["resumed", "pending"],
      ["unconfigured", "removed"],
    ],
  );
});

test("legalFrom names exactly the states in which next gives a state", () => {
  for (const kind of kinds) {
    const allowed = tableStates.filter((state) => next(state, tableEvent(kind, "copy-and-stream")) !== null);
    assert.deepEqual(legalFrom(kind), allowed);
  }
});

test("whatever happens, a table holds rows only after a cut, and an error, a pause or a removal ends only by beginning anew", () => {
  fc.assert(
    fc.property(modes, fc.array(fc.constantFrom(...kinds), { maxLength: 40 }), (mode, events) => {
      let state: TableState = "pending";
      let hasCut = false;
      for (const kind of events) {
        const after = next(state, tableEvent(kind, mode));
        if (after === null) continue;
        if (kind === "cutTaken") hasCut = true;
        if (after === "pending") hasCut = false;
        if (state === "error") assert.ok(["error", "paused", "removed", "pending"].includes(after));
        if (state === "paused") assert.ok(["removed", "pending"].includes(after));
        if (state === "removed") assert.equal(after, "pending");
        if (["copying", "streaming", "copied"].includes(after)) assert.ok(hasCut);
        if (after === "copied") assert.equal(mode, "copy-only");
        if (after === "streaming") assert.notEqual(mode, "copy-only");
        if (after === "copying") assert.notEqual(mode, "stream-only");
        state = after;
      }
    }),
  );
});
