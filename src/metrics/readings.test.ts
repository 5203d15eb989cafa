import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePrometheus, readingOf } from "../../test/support/prometheus-text.ts";
import { sampleFigures } from "../../test/support/sample-figures.ts";
import { errorPolicies } from "../base/errors.ts";
import { lsn } from "../base/lsn.ts";
import { metricList, metricNames } from "./metric-list.ts";
import { prometheusText } from "./prometheus.ts";
import { type Figures, readingsOf } from "./readings.ts";

const name = (stream: number) => `app_${stream}`;
const prometheus = prometheusText("app");
const scrape = async (figures: Figures) => parsePrometheus(await prometheus.write(readingsOf(figures, name)));

test("every metric has a reading when everything is known, with the labels that the list says", () => {
  const readings = readingsOf(sampleFigures(), name);
  for (const metric of metricNames) {
    const own = readings.filter((reading) => reading.name === metric);
    assert.ok(own.length > 0, `${metric} has no reading`);
    for (const { labels } of own) assert.deepEqual(Object.keys(labels), [...metricList[metric].labels], metric);
  }
});

test("the text is what Prometheus reads, whatever the names of tables hold", async () => {
  const families = await scrape(sampleFigures());
  assert.equal(readingOf(families, "pg_flo_table_failed", { table: 'odd "name"\n\\' }), 1);
  assert.equal(readingOf(families, "pg_flo_stream_transaction_changes_bucket", { stream: "app_1", le: "1" }), 2);
  assert.equal(readingOf(families, "pg_flo_stream_transaction_changes_bucket", { stream: "app_1", le: "+Inf" }), 4);
  assert.equal(readingOf(families, "pg_flo_stream_batch_seconds_bucket", { stream: "app_1", le: "0.05" }), 1);
  assert.equal(readingOf(families, "pg_flo_stream_batch_seconds_sum", { stream: "app_1" }), 0.03);
  assert.equal(families.get("pg_flo_errors_total")!.samples.length, Object.keys(errorPolicies).length);
  assert.equal(readingOf(families, "pg_flo_group_ranges_waiting"), 4);
  for (const { samples } of families.values()) for (const { labels } of samples) assert.equal(labels.group, "app");
});

test("what is not known any more has no value, and nothing of the scrape before is left", async () => {
  await scrape(sampleFigures());
  const unknown = { streams: new Map(), totals: new Map(), budgets: new Map(), group: null, heartbeatAgeMs: null };
  const families = await scrape({ ...sampleFigures(), ...unknown, running: false });
  for (const metric of metricNames) {
    const always = /^pg_flo_(worker_(info|running|sessions)|errors|copy|group_reachable)/.test(metric);
    assert.equal(families.get(metric)!.samples.length > 0, always, metric);
  }
});

test("the end of the log is never before what was read of it", async () => {
  const sample = sampleFigures();
  const budget = sample.budgets.get("pg_flo_app_1")!;
  const old = await scrape({ ...sample, budgets: new Map([["pg_flo_app_1", { ...budget, walPosition: lsn(500n) }]]) });
  assert.equal(readingOf(old, "pg_flo_stream_lag_bytes", { stream: "app_1" }), 1000);
  assert.equal(readingOf(old, "pg_flo_source_wal_lsn"), 2000);
});

test("a slot without a limit has no time left, one that does not grow has no end", async () => {
  const budget = sampleFigures().budgets.get("pg_flo_app_1")!;
  const timeLeft = async (changes: Partial<typeof budget>) => {
    const budgets = new Map([["s", { ...budget, ...changes }]]);
    return readingOf(await scrape({ ...sampleFigures(), budgets }), "pg_flo_slot_time_left_seconds");
  };
  assert.equal(await timeLeft({}), 1e8);
  assert.equal(await timeLeft({ safeBytes: null, timeLeftMs: null }), undefined);
  assert.equal(await timeLeft({ growthBytesPerSecond: null, timeLeftMs: null }), undefined);
  assert.equal(await timeLeft({ growthBytesPerSecond: -5, timeLeftMs: null }), Number.POSITIVE_INFINITY);
});
