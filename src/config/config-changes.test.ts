import assert from "node:assert/strict";
import { test } from "node:test";
import type { Config } from "./config.ts";
import { configChanges } from "./config-changes.ts";
import { parseConfig } from "./load.ts";

const config = (more: string): Config =>
  parseConfig(`source: { url: "postgres://a@b/c" }\nstorage: data\n${more}`, {
    env: {},
    baseDir: "/etc/flo",
    file: "pg-flo.yaml",
  });

test("tables, the copy and the budget change at once, everything else waits for a restart and is named", () => {
  const running = config("group: app\nschemas: { public: { a: {} } }");
  const wanted = config(`group: other
schemas: { public: { b: {} } }
copy: { parallel: 7 }
stream: { flush_interval: 1s }
wal_budget: { critical: 1GB }
discovery_interval: 1m
lease: 5s
profile: native`);
  const changes = configChanges(running, wanted);
  assert.deepEqual(changes.taken, ["schemas", "copy", "wal_budget", "discovery_interval"]);
  assert.deepEqual(changes.waiting, ["group", "stream", "lease", "profile"]);
  const { schemas, copy, walBudget, discoveryIntervalMs } = wanted;
  assert.deepEqual(changes.config, { ...running, schemas, copy, walBudget, discoveryIntervalMs });
});

test("the same config changes nothing", () => {
  const running = config("group: app\nschemas: { public: '*' }");
  assert.deepEqual(configChanges(running, config("group: app\nschemas: { public: '*' }")), {
    config: running,
    taken: [],
    waiting: [],
  });
});
