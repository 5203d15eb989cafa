import assert from "node:assert/strict";
import { test } from "node:test";
import { lsn } from "../base/lsn.ts";
import { timelineEnd } from "./timeline.ts";

const history =
  "# a comment\n1\t0/3000158\tno recovery target specified\n\n2\t1/A0000F8\tbefore 2000-01-01 00:00:00+00\n";

test("an ancestor's end is the point at which it was left, and others have none", () => {
  assert.equal(timelineEnd(history, 1), lsn(0x3000158n));
  assert.equal(timelineEnd(history, 2), lsn(0x1_0a0000f8n));
  for (const [text, timeline] of [
    [history, 3],
    ["", 1],
    ["#1\t0/10\tx", 1],
  ] as const) {
    assert.equal(timelineEnd(text, timeline), null);
  }
});
