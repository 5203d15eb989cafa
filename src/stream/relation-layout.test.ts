// Which columns a Relation message means, with the versions that are known.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SourceColumn } from "../postgres/catalog.ts";
import type { Relation } from "../postgres/relation.ts";
import { layoutOf } from "./relation-layout.ts";

/** `name attnum type`, types by a letter. */
function columns(text: string): SourceColumn[] {
  return text.split(", ").map((each) => {
    const [name = "", attnum, type = "a"] = each.split(" ");
    const typeOid = type.charCodeAt(0);
    return { name, attnum: Number(attnum), typeOid, typmod: -1, typeName: type, notNull: false, generated: "" };
  });
}

function layout(versions: readonly string[], message: string): readonly number[] | string {
  const known = versions.map(columns);
  const told: Relation = {
    oid: 1,
    schema: "public",
    name: "t",
    replicaIdentity: "d",
    columns: columns(message.replaceAll(/(\w+)( \w)?(,|$)/g, "$1 0$2$3")).map((column) => ({ ...column, flags: 0 })),
  };
  const newest = known.at(-1)!.map((source) => ({ source }));
  const found = layoutOf(told, { columns: newest, versions: known, wants: (name) => name !== "left_out" });
  return "mismatch" in found ? found.mismatch : [...found.projection];
}

test("a message of the newest version, of an older one, and of one between", () => {
  const versions = ["id 1, a 2", "id 1, b 3, c 4"];
  assert.deepEqual(layout(versions, "id, b, c"), [0, 1, 2]);
  assert.deepEqual(layout(versions, "id, a"), [0, -1, -1]);
  assert.deepEqual(layout(versions, "id, a, b"), [0, 2, -1]);
  assert.deepEqual(layout(versions, "id, a, b, c"), [0, 2, 3]);
  assert.deepEqual(layout(versions, "id, left_out, b, c"), [0, 2, 3]);
});

test("renamed columns, names that were exchanged, and types that became wider", () => {
  assert.deepEqual(layout(["id 1, a 2", "id 1, b 2"], "id, a"), [0, 1]);
  assert.deepEqual(layout(["id 1, a 2, b 3", "id 1, b 2, a 3"], "id, a, b"), [0, 1, 2]);
  assert.deepEqual(layout(["id 1, a 2, b 3", "id 1, b 2, a 3"], "id, b, a"), [0, 1, 2]);
  assert.deepEqual(layout(["id 1, a 2", "id 1, b 2, a 3"], "id, a"), [0, 1, -1], "a is the one that was there");
  assert.deepEqual(layout(["id 1, a 2 x", "id 1, a 2 y"], "id, a x"), [0, 1]);
});

test("what cannot be told is refused", () => {
  assert.equal(layout(["id 1, a 2"], "id, a, b"), 'column "b" is new');
  assert.equal(layout(["id 1, a 2"], "id, a x"), 'column "a" has another type');
  assert.equal(layout(["id 1, a 2"], "id"), 'column "a" is gone');
  assert.equal(layout(["id 1, a 2", "id 1, a 2, b 3"], "id, b"), 'column "a" is gone');
  // c was added before d, so d cannot be there without it.
  assert.equal(layout(["id 1", "id 1, c 3, d 4"], "id, d"), 'column "c" is gone');
  assert.match(String(layout(["id 1, a 2, b 3", "id 1, a 2, b 3, c 4"], "id, b, a")), /order/);
  // The first a is gone, the second came later: this is one or the other.
  assert.match(String(layout(["id 1, a 2", "id 1, x 3", "id 1, a 4"], "id, a")), /more than one way/);
});
