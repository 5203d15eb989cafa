import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type ErrorAction, type ErrorCode, errorPolicies, PgFloError } from "./errors.ts";

const actionText: Readonly<Record<ErrorAction, string>> = {
  retry: "tries again",
  "stop-table": "stops this table",
  "stand-by": "leaves the stream",
  "stop-worker": "stops and asks",
};

test("docs/ERRORS.md has every code with its cause, what a worker does, and its fix, and no other code", () => {
  const page = readFileSync(new URL("../../docs/ERRORS.md", import.meta.url), "utf8").replaceAll(/\s+/g, " ");
  const sections = page.split(" ## ").slice(1);
  assert.deepEqual(sections.map((section) => section.split(" ")[0]).sort(), Object.keys(errorPolicies).sort());
  for (const section of sections) {
    const { action, fix } = errorPolicies[section.split(" ")[0] as ErrorCode];
    for (const text of ["**Cause**: ", `**A worker** ${actionText[action]}`, `**Fix**: ${fix}.`]) {
      assert.ok(section.includes(text), `${section}\nlacks: ${text}`);
    }
  }
});

test("a message is code, description and fix, the policy's or its own", () => {
  const own = new PgFloError("SLOT_LOST", "slot x, gone", { fix: "do this", facts: { slot: "x" }, cause: 1 });
  assert.equal(own.message, "[SLOT_LOST] slot x, gone; do this");
  assert.deepEqual([own.action, own.facts, own.cause], ["stop-worker", { slot: "x" }, 1]);
  assert.equal(new PgFloError("CONNECTION_LOST", "a").fix, errorPolicies.CONNECTION_LOST.fix);
});
