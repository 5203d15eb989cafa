import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { metricNames } from "./metric-list.ts";
import { metricsPage } from "./metrics-page.ts";
import { prometheusText } from "./prometheus.ts";

const page = readFileSync(new URL("../../docs/METRICS.md", import.meta.url), "utf8");

test("docs/METRICS.md lists exactly the metrics that the code registers (npm run docs:metrics writes it)", () => {
  const registered = prometheusText("app")
    .metrics()
    .map(({ name }) => name);
  const listed = [...page.matchAll(/^\| `([a-z0-9_]+)` \|/gm)].map(([, name]) => name!);
  assert.deepEqual([...new Set(listed)].length, listed.length, "one is listed twice");
  // What only Linux has is in the page; elsewhere it is not registered.
  const missing = listed.filter((name) => !registered.includes(name));
  assert.deepEqual(process.platform === "linux" ? missing : missing.filter((name) => !name.startsWith("process_")), []);
  assert.deepEqual(
    registered.filter((name) => !listed.includes(name)),
    [],
  );
  assert.deepEqual(
    metricNames.filter((name) => !listed.includes(name)),
    [],
  );
});

test("docs/METRICS.md says what the code does", () => {
  if (process.platform === "linux") assert.equal(page, metricsPage());
});
