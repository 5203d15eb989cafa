// Trees of lists, structs and maps through readers that are not ours.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { makeTestFolder } from "../../test/support/folder.ts";
import { column, types, writeParquet } from "../../test/support/parquet-files.ts";
import { queryDuckdb, readEverywhere, type Value } from "../../test/support/parquet-readers.ts";
import { leavesOf, type ParquetColumn, type StructColumn } from "./schema.ts";

const struct = (name: string, fieldId: number, fields: readonly ParquetColumn[]): StructColumn => ({
  kind: "struct",
  name,
  fieldId,
  fields,
});
const list = (name: string, fieldId: number, element: ParquetColumn): ParquetColumn => ({
  kind: "list",
  name,
  fieldId,
  element,
});
const map = (name: string, fieldId: number, value: ParquetColumn): ParquetColumn => {
  const key = { kind: "value", name: "key", fieldId: fieldId + 1, type: types.string } as const;
  return { kind: "map", name, fieldId, key, value };
};

const point = struct("point", 1, [column("x", 10, types.double), column("y", 11, types.int32)]);
const nested = list(
  "orders",
  2,
  struct("element", 20, [
    column("id", 21, types.int64),
    list("lines", 22, struct("element", 23, [column("sku", 24, types.string), column("tags", 25, types.string, true)])),
  ]),
);
const attributes = map("attributes", 3, column("value", 32, types.string));
const maps = list("maps", 4, map("element", 40, list("value", 42, column("element", 43, types.int32))));

test("NULL structs, structs of NULLs, empty and NULL lists and maps are told apart by every reader", async () => {
  const values: Record<string, Value[]> = {
    point: [["1.5", "2"], null, [null, null], ["-0", null], [null, "7"]],
    orders: [
      [["1", [["a", ["x", null, ""]], [null, []], ["b", null], null]], ["2", []], ["3", null], null],
      [],
      null,
      [null],
      [
        [null, null],
        [null, [null, [null, null], ["c", [null]]]],
      ],
    ],
    attributes: [
      [
        ["a", "1"],
        ["b", null],
      ],
      null,
      [],
      [["", ""]],
      [["é", "🚀"]],
    ],
    maps: [
      [[["k", ["1", null]]], [], null],
      null,
      [],
      [null, null],
      [
        [
          ["a", []],
          ["b", null],
        ],
      ],
    ],
  };
  const columns = [point, nested, attributes, maps];
  const content = { columns, values: columns.map(({ name }) => values[name]!) };
  await using folder = await makeTestFolder();
  const read = await readEverywhere(folder, "nested.parquet", await writeParquet(content));
  for (const [index, { name }] of columns.entries()) assert.deepEqual(read[index]!.values, values[name], name);
});

test("DuckDB sees the types of a tree, and finds rows by what lies inside of it", async () => {
  await using folder = await makeTestFolder();
  const values = Array.from({ length: 3000 }, (_, n): Value => (n % 7 === 0 ? null : [String(n / 2), String(n)]));
  const file = await writeParquet({ columns: [point], values: [values], rowsPerCall: 100 });
  await readEverywhere(folder, "point.parquet", file);
  const path = `${folder.path}/point.parquet`;
  const [, described] = await queryDuckdb(`describe select * from '${path}'`);
  assert.deepEqual(described!.values, ["STRUCT(x DOUBLE, y INTEGER)"]);
  const [found] = await queryDuckdb(`select count(*) from '${path}' where point.y between 100 and 110`);
  assert.deepEqual(found!.values, ["10"]);
});

test("levels of a map's key leave out the one that only optional columns have", () => {
  const leaves = leavesOf(maps).map(({ path, maxDefinition, maxRepetition }) => ({
    path: path.join("."),
    maxDefinition,
    maxRepetition,
  }));
  assert.deepEqual(leaves, [
    { path: "maps.list.element.key_value.key", maxDefinition: 4, maxRepetition: 2 },
    { path: "maps.list.element.key_value.value.list.element", maxDefinition: 7, maxRepetition: 3 },
  ]);
});

type Made = { column: ParquetColumn; value: fc.Arbitrary<Value> };
type Make = (name: string, id: { next: number }) => Made;

/** Columns with random values, at most four levels deep. */
const shapes = fc.letrec<{ node: Make }>((tie) => ({
  node: fc.oneof(
    { depthSize: "small", withCrossShrink: true, maxDepth: 4 },
    fc.constant(
      (name: string, id: { next: number }): Made => ({
        column: column(name, id.next++, types.int32),
        value: fc.option(fc.integer({ min: -9, max: 9 }).map(String)),
      }),
    ),
    tie("node").map((make) => (name: string, id: { next: number }) => {
      const fieldId = id.next++;
      const { column: element, value } = make("element", id);
      return { column: list(name, fieldId, element), value: fc.option(fc.array(value, { maxLength: 3 })) };
    }),
    fc.array(tie("node"), { minLength: 1, maxLength: 3 }).map((makes) => (name: string, id: { next: number }) => {
      const fieldId = id.next++;
      const fields = makes.map((make, k) => make(`f${k}`, id));
      const value = fc.option(fc.tuple(...fields.map((field) => field.value)).map((items) => items as Value));
      return {
        column: struct(
          name,
          fieldId,
          fields.map((field) => field.column),
        ),
        value,
      };
    }),
    tie("node").map((make) => (name: string, id: { next: number }) => {
      const fieldId = id.next;
      id.next += 2;
      const { column: mapped, value } = make("value", id);
      const keys = ["a", "b", "c"];
      const pairs = fc.array(value, { maxLength: 3 }).map((items): Value => items.map((item, k) => [keys[k]!, item]));
      return { column: map(name, fieldId, mapped), value: fc.option(pairs) };
    }),
  ),
}));

test("random trees of random values come back from every reader as they were", async () => {
  await using folder = await makeTestFolder();
  let number = 0;
  const subject = shapes.node.chain((make) => {
    const { column: made, value } = make("c", { next: 1 });
    return fc.record({ column: fc.constant(made), rows: fc.array(value, { minLength: 1, maxLength: 20 }) });
  });
  await fc.assert(
    fc.asyncProperty(subject, async ({ column: made, rows }) => {
      const file = await writeParquet({ columns: [made], values: [rows], rowsPerCall: 7 });
      const [read] = await readEverywhere(folder, `${number++}.parquet`, file);
      assert.deepEqual(read!.values, rows);
    }),
    { numRuns: 60 },
  );
});
