// Prometheus's text format, read strictly: https://prometheus.io/docs/instrumenting/exposition_formats/
// (Go reads numbers, so NaN may be written in any case.) What the format forbids is an error: a sample without a TYPE, two samples with the same labels, a wrong number.
import assert from "node:assert/strict";

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

const sampleLine = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([Nn]a[Nn]|[+-]Inf|[-+0-9.eE]+)$/;
const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)/y;

export function parsePrometheus(text: string): Map<string, Family> {
  assert.ok(text.endsWith("\n"), "the last line has no end");
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let current: { readonly name: string; readonly family: Family } | undefined;
  const helps = new Map<string, string>();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, kind, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind === "HELP") {
      helps.set(name, rest);
    } else if (kind === "TYPE") {
      assert.ok(!families.has(name), `${name} is there twice`);
      assert.match(rest, /^(counter|gauge|histogram|summary)$/);
      const help = helps.get(name);
      assert.ok(help !== undefined, `${name} has no help`);
      current = { name, family: { type: rest, help, samples: [] } };
      families.set(name, current.family);
    } else {
      const sample = parseSample(line);
      assert.ok(current && belongs(sample.name, current), `${line} belongs to no family`);
      const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`;
      assert.ok(!seen.has(key), `${line} is there twice`);
      seen.add(key);
      current.family.samples.push(sample);
    }
  }
  for (const [name, family] of families) if (family.type === "histogram") checkHistogram(name, family);
  return families;
}

/** The one value with these labels, other labels aside; undefined when there is none. */
export function readingOf(
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const base = name.replace(/_(bucket|sum|count)$/, "");
  const samples = (families.get(name) ?? families.get(base))?.samples.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  );
  assert.ok((samples?.length ?? 0) <= 1, `${name} ${JSON.stringify(labels)} is not one value`);
  return samples?.[0]?.value;
}

function parseSample(line: string): Sample {
  const [, name, labelText = "", value] = sampleLine.exec(line) ?? [];
  assert.ok(name !== undefined && value !== undefined, `not a sample: ${line}`);
  const labels: Record<string, string> = {};
  for (let at = 0; at < labelText.length; at = label.lastIndex) {
    label.lastIndex = at;
    const [, key, text] = label.exec(labelText) ?? [];
    assert.ok(key !== undefined && !Object.hasOwn(labels, key), `wrong labels: ${line}`);
    labels[key] = text!.replace(/\\(.)/g, (_all, character: string) => (character === "n" ? "\n" : character));
  }
  const number = Number(value.replace("Inf", "Infinity"));
  assert.ok(/^nan$/i.test(value) || !Number.isNaN(number), `not a number: ${line}`);
  return { name, labels, value: number };
}

function belongs(sample: string, { name, family }: { name: string; family: Family }): boolean {
  if (sample === name) return family.type !== "histogram";
  return family.type === "histogram" && ["_bucket", "_sum", "_count"].some((suffix) => sample === name + suffix);
}

/** Buckets never fall, the last one is +Inf and equals the count. */
function checkHistogram(name: string, { samples }: Family): void {
  const series = new Map<string, { buckets: Sample[]; count?: number; sum?: number }>();
  for (const sample of samples) {
    const { le: _bound, ...others } = sample.labels;
    const key = JSON.stringify(Object.entries(others).sort());
    const one = series.get(key) ?? { buckets: [] };
    series.set(key, one);
    if (sample.name === `${name}_bucket`) one.buckets.push(sample);
    else if (sample.name === `${name}_count`) one.count = sample.value;
    else one.sum = sample.value;
  }
  for (const [key, { buckets, count, sum }] of series) {
    const values = buckets.map(({ value }) => value);
    assert.deepEqual(
      values,
      values.toSorted((left, right) => left - right),
      `${name} ${key}: buckets fall`,
    );
    assert.equal(buckets.at(-1)?.labels.le, "+Inf", `${name} ${key}`);
    assert.equal(buckets.at(-1)?.value, count, `${name} ${key}`);
    assert.ok(sum !== undefined && sum >= 0, `${name} ${key}`);
  }
}
