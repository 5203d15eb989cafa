import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { expectedValue } from "../../test/support/expected-values.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { readEverywhere } from "../../test/support/parquet-readers.ts";
import { pgType, sourceColumn, writeTable } from "../../test/support/table-files.ts";
import type { PgType } from "../postgres/catalog.ts";
import { type ColumnPlan, planColumns } from "./registry.ts";

interface Vector {
  readonly family: string;
  readonly type: string;
  readonly expr: string;
  readonly wire_hex: string | null;
  readonly copy_text: string | null;
}

/** Types with a binary decoder, by their name in the vectors. Every other vector is read as text. */
const oids: Readonly<Record<string, number>> = {
  bool: 16,
  bytea: 17,
  name: 19,
  int8: 20,
  int2: 21,
  int4: 23,
  int: 23,
  text: 25,
  oid: 26,
  json: 114,
  xml: 142,
  float4: 700,
  float8: 701,
  char: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  numeric: 1700,
  uuid: 2950,
  jsonb: 3802,
  "tl.mood": 50_001,
  "tl.moodd": 50_002,
  "tl.posint": 50_003,
  "tl.num102": 50_004,
  "tl.posarr": 50_005,
  "tl.arrdom": 50_006,
};
const otherOid = 60_000;
const arrayOf = (oid: number) => 100_000 + oid;
const numericTypmod = (precision: number, scale: number) => ((precision << 16) | (scale & 0x7ff)) + 4;

const types: ReadonlyMap<number, PgType> = new Map(
  [
    ...Object.values(oids).flatMap((oid) => [pgType(oid), pgType(arrayOf(oid), { elementOid: oid })]),
    pgType(50_001, { kind: "e" }),
    pgType(50_002, { kind: "d", baseOid: 50_001 }),
    pgType(50_003, { kind: "d", baseOid: 23 }),
    pgType(50_004, { kind: "d", baseOid: 1700, baseTypmod: numericTypmod(10, 2) }),
    pgType(50_005, { kind: "d", baseOid: arrayOf(23) }),
    pgType(50_006, { kind: "d", baseOid: arrayOf(50_003) }),
    pgType(22, { elementOid: 21 }), // int2vector
    pgType(30, { elementOid: 26 }), // oidvector
    pgType(otherOid),
  ].map((type) => [type.oid, type]),
);

const vectors = readFileSync(new URL("../../test/golden/golden.jsonl", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Vector);

test("every vector is in the file as Postgres prints it, whether it came in binary or as text", async (t) => {
  const groups = Map.groupBy(vectors, columnTypeOf);
  const counts = { binary: 0, text: 0, inexact: 0, lists: 0 };
  await using folder = await makeTestFolder();
  let number = 0;
  for (const [typeName, group] of groups) {
    const plan = planOf(typeName);
    const texts = group.map((vector) => (vector.copy_text === null ? null : unescapeCopy(vector.copy_text)));
    const parsed = texts.map((text) => (text === null ? null : plan.parse(text)));
    const file = await writeTable([plan], [parsed]);
    if (plan.binary) {
      const wires = group.map(({ wire_hex: wire }) =>
        wire === null ? null : new Uint8Array(Buffer.from(wire, "hex")),
      );
      assert.ok(Buffer.from(await writeTable([plan], [wires])).equals(file), `${typeName}: binary and text differ`);
    }
    const [column, exactColumn] = await readEverywhere(folder, `${number++}.parquet`, file);
    for (const [row, text] of texts.entries()) {
      const kind = typeName.startsWith("char") ? "trimmed" : "plain";
      const expected = expectedValue(plan.parquet, kind, text);
      assert.deepEqual(column!.values[row], expected.value, group[row]!.expr);
      const exact = expected.exact ? null : JSON.stringify({ v: text });
      assert.equal(exactColumn!.values[row], exact, `exact text of ${group[row]!.expr}`);
      counts[plan.binary ? "binary" : "text"]++;
      if (!expected.exact) counts.inexact++;
      if (plan.parquet.kind === "list") counts.lists++;
    }
  }
  t.diagnostic(`${vectors.length} vectors: ${JSON.stringify(counts)}`);
  assert.deepEqual(
    { vectors: vectors.length, ...counts },
    { vectors: 700, binary: 462, text: 238, inexact: 72, lists: 32 },
  );
});

/** The vector's column type; array vectors only tell it in their expression. */
function columnTypeOf({ type, expr }: Vector): string {
  if (type !== "array") return type;
  if (expr.startsWith("array_fill(0") || expr.startsWith("array[array[]::int[]]")) return "int[]";
  return /::([\w." (),]+(?:\[\])?)$/.exec(expr)?.[1] ?? "array of another type";
}

function planOf(typeName: string): ColumnPlan {
  const match = /^"?([\w.]+)"?(?:\(([-\d,]+)\))?(\[\])?$/.exec(typeName);
  const [, name, modifiers, brackets] = match ?? [];
  const oid = typeName.startsWith('"') ? undefined : oids[name ?? ""];
  const numbers = (modifiers ?? "").split(",").map(Number);
  const typmod = !modifiers ? -1 : name === "numeric" ? numericTypmod(numbers[0]!, numbers[1]!) : numbers[0]! + 4;
  const vectorOid = typeName === "int2vector" ? 22 : typeName === "oidvector" ? 30 : otherOid;
  const typeOid = oid === undefined ? vectorOid : brackets ? arrayOf(oid) : oid;
  return planColumns([sourceColumn("v", 1, typeOid, typmod)], types)[0]!;
}

function unescapeCopy(text: string): string {
  const letters: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };
  return text.replace(/\\(.)/gs, (_, letter: string) => letters[letter] ?? letter);
}
