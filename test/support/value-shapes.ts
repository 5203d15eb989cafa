// Columns of random trees of lists, structs and maps, with random values for them.
import fc from "fast-check";
import type { ParquetColumn, StructColumn } from "../../src/parquet/schema.ts";
import { column, types } from "./parquet-files.ts";
import type { Value } from "./parquet-readers.ts";

export const structColumn = (name: string, fieldId: number, fields: readonly ParquetColumn[]): StructColumn => ({
  kind: "struct",
  name,
  fieldId,
  fields,
});
export const listColumn = (name: string, fieldId: number, element: ParquetColumn): ParquetColumn => ({
  kind: "list",
  name,
  fieldId,
  element,
});
export const mapColumn = (name: string, fieldId: number, value: ParquetColumn): ParquetColumn => {
  const key = { kind: "value", name: "key", fieldId: fieldId + 1, type: types.string } as const;
  return { kind: "map", name, fieldId, key, value };
};

type Made = { column: ParquetColumn; value: fc.Arbitrary<Value> };
type Make = (name: string, id: { next: number }) => Made;

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
      return { column: listColumn(name, fieldId, element), value: fc.option(fc.array(value, { maxLength: 3 })) };
    }),
    fc.array(tie("node"), { minLength: 1, maxLength: 3 }).map((makes) => (name: string, id: { next: number }) => {
      const fieldId = id.next++;
      const fields = makes.map((make, k) => make(`f${k}`, id));
      const value = fc.option(fc.tuple(...fields.map((field) => field.value)).map((items) => items as Value));
      return {
        column: structColumn(
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
      return { column: mapColumn(name, fieldId, mapped), value: fc.option(pairs) };
    }),
  ),
}));

/** Columns with random values, at most four levels deep. */
export const randomTree = shapes.node;
