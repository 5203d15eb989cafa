// Damaged bytes and texts of what the native profile makes trees of, as fuzz.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodes, testDamage } from "../../test/support/damaged-values.ts";
import { columnTypeOf, planOf, unescapeCopy, vectors } from "../../test/support/golden-vectors.ts";

// `time` and the like are values; a multirange's own text may have adjacent ranges that Postgres would have joined.
const subjects = [
  ...["time", "uuid", "interval", "point", "lseg", "box", "path", "polygon", "circle", "line"],
  ...["int4range", "numrange", "tstzrange", "tl.textrange", "int4multirange", "nummultirange"],
  ...["tl.comp", "tl.comp_nest", "public.hstore"],
];
const numerics: ReadonlySet<string> = new Set(["numrange", "nummultirange", "tl.comp", "tl.comp_nest"]);

for (const name of subjects) {
  const { tree } = planOf(name, "native");
  const texts = vectors
    .filter((vector) => columnTypeOf(vector) === name && vector.copy_text !== null)
    .map((vector) => unescapeCopy(vector.copy_text!));
  testDamage({
    ...{ name: `native ${name}`, tree, texts, roundTrip: !numerics.has(name) },
    ...(name === "box" ? { delimiter: ";" } : {}),
  });
}

test("values that only the native profile takes apart are refused when they do not fit", () => {
  const refused: readonly (readonly [type: string, hex: string])[] = [
    ["time", "000000141dd76001"],
    ["uuid", "00"],
    ["interval", "00"],
    ["point", "0000000000000000"],
    ["path", "01 00000002 00"],
    ["polygon", "7fffffff"],
    ["int4range", "20"],
    ["int4range", "02 00000004 00000001"],
    ["int4range", "08 00000004 00000001 00"],
    ["int4multirange", "7fffffff"],
    ["int4multirange", "00000001 00000002 01"],
    ["tl.comp", "00000003 00000017 00000004 00000001"],
    ["public.hstore", "00000001 ffffffff ffffffff"],
  ];
  for (const [type, hex] of refused) {
    const wire = new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
    assert.equal(encodes(planOf(type, "native").tree, wire), false, `${type} ${hex}`);
  }
});
