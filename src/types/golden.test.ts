import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { expectedValue } from "../../test/support/expected-values.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { columnTypeOf, planOf, unescapeCopy, vectors } from "../../test/support/golden-vectors.ts";
import { readEverywhere } from "../../test/support/parquet-readers.ts";
import { writeTable } from "../../test/support/table-files.ts";

/**
 * What the file has where that is not the text output, as the server itself makes it: intervals of style iso_8601, to_json
 * of composites and hstore; of arrays each element. oracle.pg.test.ts asks it again.
 */
const forms: ReadonlyMap<string, string | readonly (string | null)[]> = new Map(
  readFileSync(new URL("../../test/golden/forms.jsonl", import.meta.url), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { readonly expr: string; readonly form: string | readonly (string | null)[] })
    .map(({ expr, form }) => [expr, form]),
);

test("every vector is in the file as Postgres prints it, whether it came in binary or as text", async (t) => {
  const groups = Map.groupBy(vectors, columnTypeOf);
  const counts = { binary: 0, inexact: 0, lists: 0 };
  await using folder = await makeTestFolder();
  let number = 0;
  for (const [typeName, group] of groups) {
    if (typeName === "regclass") continue; // below
    const plan = planOf(typeName);
    assert.ok(plan.binary, typeName);
    const texts = group.map((vector) => (vector.copy_text === null ? null : unescapeCopy(vector.copy_text)));
    const parsed = texts.map((text) => (text === null ? null : plan.parse(text)));
    const file = await writeTable([plan], [parsed]);
    const wires = group.map(({ wire_hex: wire }) => (wire === null ? null : new Uint8Array(Buffer.from(wire, "hex"))));
    assert.ok(Buffer.from(await writeTable([plan], [wires])).equals(file), `${typeName}: binary and text differ`);
    for (const [row, wire] of wires.entries()) {
      if (!wire) continue;
      const view = new DataView(wire.buffer);
      assert.equal(plan.tree.codec.format(wire, view, 0, wire.length), texts[row], `text of ${group[row]!.expr}`);
    }
    const [column, exactColumn] = await readEverywhere(folder, `${number++}.parquet`, file);
    for (const [row, text] of texts.entries()) {
      const { expr } = group[row]!;
      const kind = typeName.startsWith("char") ? "trimmed" : "plain";
      const form = forms.get(expr);
      const expected = form
        ? { value: form, exact: true }
        : expectedValue(plan.parquet, kind, typeName === "money" ? text!.replace(/[$,]/g, "") : text);
      assert.deepEqual(column!.values[row], expected.value, expr);
      const exact = expected.exact ? null : JSON.stringify({ v: text });
      assert.equal(exactColumn!.values[row], exact, `exact text of ${expr}`);
      counts.binary++;
      if (!expected.exact) counts.inexact++;
      if (plan.parquet.kind === "list") counts.lists++;
    }
  }
  t.diagnostic(`${vectors.length} vectors: ${JSON.stringify(counts)}`);
  assert.deepEqual({ vectors: vectors.length, ...counts }, { vectors: 700, binary: 699, inexact: 72, lists: 42 });
});

test("a reg* value is its OID, and where a stream had to be read as text NULL with the name beside it", async () => {
  const [vector] = vectors.filter(({ type }) => type === "regclass");
  const plan = planOf("regclass");
  assert.ok(plan.binary);
  await using folder = await makeTestFolder();
  const wires = [new Uint8Array(Buffer.from(vector!.wire_hex!, "hex"))];
  const binary = await readEverywhere(folder, "binary.parquet", await writeTable([plan], [wires]));
  assert.deepEqual(
    binary.map(({ values }) => values),
    [["1259"], [null]],
  );
  const parsed = ["pg_class", "-", "4000000000"].map((text) => plan.parse(text));
  const text = await readEverywhere(folder, "text.parquet", await writeTable([plan], [parsed]));
  assert.deepEqual(
    text.map(({ values }) => values),
    [
      [null, "0", "4000000000"],
      ['{"v":"pg_class"}', null, null],
    ],
  );
});
