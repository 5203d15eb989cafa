import assert from "node:assert/strict";
import { test } from "node:test";
import type { PgType } from "./catalog.ts";
import { equalParts, sameParts, typeParts } from "./type-parts.ts";

const type = (oid: number, more: Partial<PgType>): [number, PgType] => [
  oid,
  {
    ...{ oid, name: `t${oid}`, schema: "public", typname: `t${oid}`, kind: "b", elementOid: 0, baseOid: 0 },
    ...{ baseTypmod: -1, hasSend: true, ...more },
  },
];
const field = (name: string, attnum: number, typeOid: number) => ({ name, attnum, typeOid, typmod: -1 });

const types = new Map([
  type(23, {}),
  type(100, { kind: "e", labels: [{ oid: 1, label: "sad" }] }),
  type(101, { kind: "c", fields: [field("a", 1, 23), field("mood", 3, 100), field("self", 4, 103)] }),
  type(102, { kind: "d", baseOid: 103 }),
  type(103, { elementOid: 101 }),
]);

test("a type's parts are the labels and attributes of all that is inside of it, once each", () => {
  assert.equal(typeParts(23, types), null);
  assert.deepEqual(typeParts(102, types), {
    "attribute 101.1": '["a",23,-1]',
    "attribute 101.3": '["mood",100,-1]',
    "attribute 101.4": '["self",103,-1]',
    "label 1": "sad",
  });
});

test("values look the same after a new label, and otherwise after a renamed one or any change of an attribute", () => {
  const before = { "label 1": "sad", "attribute 9.1": "a" };
  assert.ok(sameParts(before, { "attribute 9.1": "a", "label 1": "sad" }));
  assert.ok(sameParts(before, { ...before, "label 2": "glad" }));
  assert.ok(!equalParts(before, { ...before, "label 2": "glad" }));
  assert.ok(!sameParts(before, { ...before, "label 1": "blue" }));
  assert.ok(!sameParts(before, { ...before, "attribute 9.1": "b" }));
  assert.ok(!sameParts(before, { ...before, "attribute 9.2": "b" }));
  assert.ok(!sameParts(before, { "label 1": "sad" }));
  assert.ok(!sameParts(before, undefined));
  assert.ok(sameParts(undefined, before), "not stored by an earlier version");
});
