import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { z } from "zod";
import { nearestKey } from "./nearest-key.ts";
import { configOptions, type OptionFacts } from "./options.ts";
import { parseDurationMs, parseSizeBytes } from "./quantity.ts";

interface Option extends Partial<OptionFacts> {
  readonly path: string;
}

/** Every key of a schema with what the table of options says about it. */
function optionsOf(schema: z.core.$ZodType, path: string): Option[] {
  const facts = (z.globalRegistry.get(schema) ?? {}) as Partial<OptionFacts>;
  const own = path === "" ? [] : [{ path, ...facts }];
  if (schema instanceof z.ZodObject) {
    const nested = Object.entries(schema.shape as z.core.$ZodShape);
    return [...own, ...nested.flatMap(([key, value]) => optionsOf(value, path === "" ? key : `${path}.${key}`))];
  }
  const inner = innerOf(schema);
  if (inner === undefined) return own;
  const [first, ...rest] = optionsOf(inner, path || "root");
  return [{ ...first, ...facts, path }, ...rest] as Option[];
}

function innerOf(schema: z.core.$ZodType): z.core.$ZodType | undefined {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)
    return schema.unwrap();
  if (schema instanceof z.ZodRecord) return schema.valueType as z.core.$ZodType;
  if (schema instanceof z.ZodUnion) return schema.options.at(-1) as z.core.$ZodType;
  if (schema instanceof z.ZodPipe) {
    const ends = [schema.in, schema.out] as z.core.$ZodType[];
    return ends.find((end) => !(end instanceof z.ZodTransform));
  }
  return undefined;
}

test("docs/config.md has every key with its default and what is allowed, and no other", () => {
  const text = readFileSync(new URL("../../docs/config.md", import.meta.url), "utf8");
  const [groupPart, tablePart] = text.split(/^## Tables$/m);
  const rowsOf = (part: string, prefix: string) =>
    [...part.matchAll(/^\| `([^`]+)` \|([^|]*)\|([^|]*)\|/gm)].map(
      ([, key, byDefault, allowed]) =>
        [`${prefix}${key}`, { byDefault: byDefault!.trim(), allowed: allowed!.trim() }] as const,
    );
  const rows = new Map([...rowsOf(groupPart!, ""), ...rowsOf(tablePart!, "schemas.")]);
  const options = optionsOf(configOptions, "");
  assert.ok(options.length > 30, "the walk over the schema found too little");
  const named = new Set<string>();
  for (const option of options) {
    // Connections and tables have tables of their own in the page.
    const own = option.path.replace(/^(source|metadata)\.(?!publication$)/, "");
    const row = rows.get(own);
    assert.ok(row, `${option.path} is not in docs/config.md`);
    named.add(own);
    if (option.default !== undefined) assert.equal(row.byDefault, option.default, own);
    if (option.allowed !== undefined) {
      assert.ok(
        `${option.allowed}, such as`.startsWith(row.allowed),
        `${own}: ${option.allowed}\nis not\n${row.allowed}`,
      );
    }
  }
  assert.deepEqual(
    [...rows.keys()].filter((key) => !named.has(key)),
    [],
  );
});

test("durations and sizes are read in their units, and nothing else is", () => {
  assert.deepEqual(
    ["250ms", "10s", "1.5m", "1h", "0s", "10 s", "3S", "30d"].map(parseDurationMs),
    [250, 10_000, 90_000, 3_600_000, 0, 10_000, 3000, 2_592_000_000],
  );
  assert.deepEqual(["1B", "2kB", "128MB", "1GB", "1KiB", "1.5MiB", "1GiB"].map(parseSizeBytes), [
    1,
    2000,
    128_000_000,
    10 ** 9,
    1024,
    1_572_864,
    2 ** 30,
  ]);
  for (const text of [
    "",
    "10",
    "s",
    "-1s",
    "1e3s",
    "10 sec",
    "1y",
    "constructor",
    "1 constructor",
    "Infinityms",
    "٣s",
  ]) {
    assert.equal(parseDurationMs(text), undefined, text);
    assert.equal(parseSizeBytes(text), undefined, text);
  }
});

test("the nearest key is found when it is near, and none is made up", () => {
  const keys = ["group", "source", "metadata", "storage", "schemas", "copy", "include_columns", "exclude_columns"];
  assert.equal(nearestKey("sources", keys), "source");
  assert.equal(nearestKey("includeColumns", keys), "include_columns");
  assert.equal(nearestKey("exclude-column", keys), "exclude_columns");
  assert.equal(nearestKey("Schema", keys), "schemas");
  assert.equal(nearestKey("cpy", keys), "copy");
  assert.equal(nearestKey("slot", keys), undefined);
  assert.equal(nearestKey("x".repeat(10_000), keys), undefined);
});
