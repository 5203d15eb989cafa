// What a column's type is made of: values, and lists, structs and maps of them, as deep as Postgres can make them.
// A tree says how values lie on the wire (each kind names the send function) and how their column looks in the file.
import { viewedBytes } from "../base/viewed-bytes.ts";
import type { ParquetColumn } from "../parquet/schema.ts";
import type { Codec, Family } from "./family.ts";
import { listCodec } from "./list.ts";

export interface TypeTree {
  /** Of the whole value: what is inexact anywhere inside is told as the text of all of it. */
  readonly codec: Codec;
  readonly shape: Shape;
}

export type Shape =
  | { readonly kind: "value"; readonly family: Family }
  /** array_send */
  | { readonly kind: "list"; readonly element: TypeTree }
  /** record_send; at least one field */
  | { readonly kind: "struct"; readonly fields: readonly StructField[] }
  /** hstore_send */
  | { readonly kind: "map"; readonly key: Family; readonly value: TypeTree }
  /** Wire bytes of its own, turned into those of `inner` first. */
  | { readonly kind: "rewired"; readonly rewire: Rewire; readonly inner: TypeTree };

export interface StructField {
  /** In the file. */
  readonly name: string;
  /** Told apart by it when the name changes: pg_attribute.attnum of a composite's attribute. */
  readonly number: number;
  /** As it stands in record_send's bytes. */
  readonly typeOid: number;
  readonly tree: TypeTree;
}

/** Writes the inner tree's bytes for the value; false when they do not say all that the value says. */
export type Rewire = (bytes: Uint8Array, view: DataView, at: number, length: number, out: WireWriter) => boolean;

/** Wire bytes under construction. */
export class WireWriter {
  bytes = viewedBytes(1024);
  view = new DataView(this.bytes.buffer);
  end = 0;

  int32(value: number): void {
    this.#reserve(4);
    this.view.setInt32(this.end, value);
    this.end += 4;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.bytes[this.end++] = value;
  }

  copy(bytes: Uint8Array, from: number, length: number): void {
    this.#reserve(length);
    this.bytes.set(bytes.subarray(from, from + length), this.end);
    this.end += length;
  }

  /** A field of a record: its type, its length, its bytes. */
  field(typeOid: number, bytes: Uint8Array, from: number, length: number): void {
    this.int32(typeOid);
    this.int32(length);
    this.copy(bytes, from, length);
  }

  #reserve(size: number): void {
    if (this.end + size <= this.bytes.length) return;
    const grown = viewedBytes(Math.max(this.bytes.length * 2, this.end + size));
    grown.set(this.bytes.subarray(0, this.end));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}

export function valueTree(family: Family): TypeTree {
  return { codec: family, shape: { kind: "value", family } };
}

/** Arrays of the element. */
export function listTree(element: TypeTree, elementOid: number, delimiter = ","): TypeTree {
  return { codec: listCodec(element.codec, elementOid, delimiter), shape: { kind: "list", element } };
}

/** The field id of a node below a column, by the way to it: `element`, `key`, `value`, or a field's number. */
export type FieldIdOf = (path: readonly (string | number)[]) => number;

/** The column of a type. `idOf([])` is the column's own id. */
export function treeColumn({ shape }: TypeTree, name: string, idOf: FieldIdOf): ParquetColumn {
  const fieldId = idOf([]);
  const below =
    (step: string | number): FieldIdOf =>
    (path) =>
      idOf([step, ...path]);
  switch (shape.kind) {
    case "value":
      return { kind: "value", name, fieldId, type: shape.family.type };
    case "list":
      return { kind: "list", name, fieldId, element: treeColumn(shape.element, "element", below("element")) };
    case "map": {
      const key = { kind: "value", name: "key", fieldId: idOf(["key"]), type: shape.key.type } as const;
      return { kind: "map", name, fieldId, key, value: treeColumn(shape.value, "value", below("value")) };
    }
    case "struct": {
      const fields = shape.fields.map((field) => treeColumn(field.tree, field.name, below(field.number)));
      return { kind: "struct", name, fieldId, fields };
    }
    case "rewired":
      return treeColumn(shape.inner, name, idOf);
  }
}
