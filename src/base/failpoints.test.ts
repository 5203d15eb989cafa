import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { PgFloError } from "./errors.ts";
import { armFailpoints, failpoint, failpoints } from "./failpoints.ts";

after(() => armFailpoints(undefined));

test("every failpoint is in the code exactly once", () => {
  const root = join(import.meta.dirname, "..");
  const used = globSync("**/*.ts", { cwd: root })
    .filter((path) => !path.endsWith(".test.ts") && path !== join("base", "failpoints.ts"))
    .flatMap((path) => [...readFileSync(join(root, path), "utf8").matchAll(/\bfailpoint\(([^)]*)\)/g)])
    .map(([, name]) => name?.replaceAll('"', ""));
  assert.deepEqual(used.sort(), Object.keys(failpoints).sort());
});

test("a failpoint passes unless it is armed, and what is armed happens once, at the hit that is named", () => {
  armFailpoints(undefined);
  failpoint("batch.closed");
  armFailpoints("batch.closed:2=error(STORAGE_FULL), spill.written=error");
  failpoint("batch.closed");
  failpoint("batch.files-durable");
  assert.throws(() => failpoint("batch.closed"), { code: "STORAGE_FULL", action: "retry" });
  failpoint("batch.closed");
  assert.throws(() => failpoint("spill.written"), { code: "INTERNAL" });
});

test("a delay keeps the thread for its time", () => {
  armFailpoints("batch.closed=delay(30)");
  const start = performance.now();
  failpoint("batch.closed");
  assert.ok(performance.now() - start >= 29);
});

for (const text of [
  "batch.closed",
  "no.such=kill",
  "batch.closed=stop",
  "batch.closed:0=kill",
  "batch.closed=error(X)",
]) {
  test(`what cannot be armed is refused: ${text}`, () => {
    assert.throws(
      () => armFailpoints(text),
      (error) => error instanceof PgFloError && error.code === "CONFIG_INVALID",
    );
  });
}
