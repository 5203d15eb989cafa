import assert from "node:assert/strict";
import { test } from "node:test";
import type { WantedTable } from "../metadata/register-tables.ts";
import { assignStreams } from "./discovery.ts";

const wanted = (name: string, mode: WantedTable["mode"] = "copy-and-stream"): WantedTable => ({
  schema: "public",
  name,
  oid: 1,
  mode,
  stream: mode === "copy-only" ? null : 1,
  identity: { kind: "none" },
  columns: [],
});
const known = (name: string, stream: number | null, state: "streaming" | "removed" = "streaming") => ({
  ...{ schema: "public", name, stream, state },
});

test("new tables go to the stream with the fewest, others keep theirs", () => {
  const assigned = assignStreams(
    [known("a", 1), known("b", 1), known("gone", 2, "removed"), known("far", 7)],
    ["a", "b", "c", "d", "e", "far"].map((name) => wanted(name)),
    [1, 2],
  );
  assert.deepEqual(
    assigned.map(({ name, stream }) => `${name}${stream}`),
    ["a1", "b1", "c2", "d2", "e1", "far7"],
  );
});

test("a table that is only copied has none, and gets one when it is to be followed", () => {
  assert.equal(assignStreams([], [wanted("a", "copy-only")], [1, 2])[0]!.stream, null);
  assert.equal(assignStreams([known("a", null), known("b", 1)], [wanted("a")], [1, 2])[0]!.stream, 2);
});
