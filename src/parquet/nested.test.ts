// Trees of lists, structs and maps through readers that are not ours.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { makeTestFolder } from "../../test/support/folder.ts";
import { column, types, writeParquet } from "../../test/support/parquet-files.ts";
import { queryDuckdb, readEverywhere, type Value } from "../../test/support/parquet-readers.ts";
import {
  listColumn as list,
  mapColumn as map,
  randomTree,
  structColumn as struct,
} from "../../test/support/value-shapes.ts";
import { leavesOf } from "./schema.ts";

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

test("random trees of random values come back from every reader as they were", async () => {
  await using folder = await makeTestFolder();
  let number = 0;
  const subject = randomTree.chain((make) => {
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
