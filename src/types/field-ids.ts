// Field ids: what readers know a column by when its name changes. They never depend on a column's neighbours, so a new
// column or attribute moves no other; docs/files.md tells them to users.
import { createHash } from "node:crypto";
import type { FieldIdOf } from "./type-tree.ts";

/** A column has its attnum (at most 1600); its list element is this far above it. */
const ELEMENT_FIELD_ID = 10_000;
const OLD_FIELD_ID = 1_100_000;
/** What lies deeper has a number made of the way to it, from here to 2^31. */
const NESTED_FIELD_ID = 2_000_000;

/** The ids of one table's columns. */
export class FieldIds {
  readonly #taken = new Set<number>();

  ofColumn(attnum: number): FieldIdOf {
    return (path) => this.#idOf(attnum, path);
  }

  ofOldColumn(attnum: number): FieldIdOf {
    return (path) => this.#idOf(OLD_FIELD_ID + attnum, path);
  }

  #idOf(columnId: number, path: readonly (string | number)[]): number {
    if (path.length === 0) return columnId;
    if (path.length === 1 && path[0] === "element") return ELEMENT_FIELD_ID + columnId;
    const digest = createHash("sha256")
      .update([columnId, ...path].join("/"))
      .digest();
    const range = 0x80000000 - NESTED_FIELD_ID;
    let id = NESTED_FIELD_ID + (digest.readUInt32BE() % range);
    while (this.#taken.has(id)) id = id + 1 < 0x80000000 ? id + 1 : NESTED_FIELD_ID;
    this.#taken.add(id);
    return id;
  }
}
