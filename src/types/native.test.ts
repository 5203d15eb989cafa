// The native profile of all golden vectors, through every reader.
import assert from "node:assert/strict";
import { test } from "node:test";
import { expectedNative } from "../../test/support/expected-native.ts";
import { expectedValue } from "../../test/support/expected-values.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { columnTypeOf, planOf, unescapeCopy, vectors } from "../../test/support/golden-vectors.ts";
import { readEverywhere } from "../../test/support/parquet-readers.ts";
import { writeTable } from "../../test/support/table-files.ts";

test("every vector that the native profile writes otherwise is in the file as Postgres prints it", async (t) => {
  const groups = Map.groupBy(vectors, columnTypeOf);
  const counts = { vectors: 0, inexact: 0, lists: 0, structs: 0, maps: 0 };
  await using folder = await makeTestFolder();
  let number = 0;
  for (const [typeName, group] of groups) {
    const plan = planOf(typeName, "native");
    if (JSON.stringify(plan.parquet) === JSON.stringify(planOf(typeName).parquet)) continue;
    const texts = group.map((vector) => (vector.copy_text === null ? null : unescapeCopy(vector.copy_text)));
    const parsed = texts.map((text) => (text === null ? null : plan.parse(text)));
    const wires = group.map(({ wire_hex: wire }) => (wire === null ? null : new Uint8Array(Buffer.from(wire, "hex"))));
    const file = await writeTable([plan], [wires]);
    assert.ok(Buffer.from(await writeTable([plan], [parsed])).equals(file), `${typeName}: binary and text differ`);
    const [column, exactColumn] = await readEverywhere(folder, `${number++}.parquet`, file);
    for (const [row, text] of texts.entries()) {
      const { expr } = group[row]!;
      const expected = expectedNative(plan.parquet, text);
      assert.deepEqual(column!.values[row], expected.value, expr);
      const exact = expected.exact ? null : JSON.stringify({ v: text });
      assert.equal(exactColumn!.values[row], exact, `exact text of ${expr}`);
      counts.vectors++;
      if (!expected.exact) counts.inexact++;
      if (plan.parquet.kind === "list") counts.lists++;
      if (plan.parquet.kind === "struct") counts.structs++;
      if (plan.parquet.kind === "map") counts.maps++;
    }
  }
  t.diagnostic(JSON.stringify(counts));
  assert.deepEqual(counts, { vectors: 191, inexact: 26, lists: 19, structs: 129, maps: 3 });
});

test("numeric as double keeps the exact text of what a double does not print again, as string every text", async () => {
  const group = vectors.filter((vector) => columnTypeOf(vector) === "numeric" && vector.copy_text !== null);
  const plans = [planOf("numeric", "double"), planOf("numeric", "string"), planOf("numeric", "decimal(10, 3)")];
  const wires = group.map(({ wire_hex: wire }) => new Uint8Array(Buffer.from(wire!, "hex")));
  await using folder = await makeTestFolder();
  for (const [index, plan] of plans.entries()) {
    const [column, exact] = await readEverywhere(folder, `${index}.parquet`, await writeTable([plan], [wires]));
    for (const [row, { copy_text: text, expr }] of group.entries()) {
      const value = Number(text!);
      const expected =
        index === 0
          ? { value: String(value), exact: String(value) === text || sameNumber(text!, value) }
          : expectedValue(plan.parquet, "plain", text);
      assert.equal(column!.values[row], expected.value, expr);
      assert.equal(exact!.values[row], expected.exact ? null : JSON.stringify({ v: text }), expr);
    }
  }
});

/** By bigints: the double's shortest text, scaled to a common power of ten. */
function sameNumber(text: string, value: number): boolean {
  if (!Number.isFinite(value)) return false;
  const scaled = (digits: string, exponent: number): bigint => {
    const [whole, fraction = ""] = digits.split(".");
    return BigInt(whole! + fraction) * 10n ** BigInt(20_000 + exponent - fraction.length);
  };
  const [mantissa, exponent = "0"] = String(value).split("e");
  return scaled(text, 0) === scaled(mantissa!, Number(exponent));
}
