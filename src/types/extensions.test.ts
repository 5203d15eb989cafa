// Types of extensions that the embedded servers do not have, from wire bytes that real ones sent: pgvector 0.8.0 on
// PostgreSQL 17, PostGIS 3.6.2 on PostgreSQL 18. `wkb_hex` is what ST_AsBinary gives.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { makeTestFolder } from "../../test/support/folder.ts";
import { readEverywhere, type Value } from "../../test/support/parquet-readers.ts";
import { cellsOf, pgType, sourceColumn, writeTable } from "../../test/support/table-files.ts";
import { LeafBuffer } from "../parquet/leaf-buffer.ts";
import type { PgType } from "../postgres/catalog.ts";
import { InexactValues } from "./family.ts";
import { type ColumnPlan, planColumns } from "./registry.ts";
import { footerKeyValues } from "./table-file.ts";

interface Vector {
  readonly type: "vector" | "halfvec" | "sparsevec" | "geometry" | "geography";
  readonly expr: string;
  readonly wire_hex: string;
  readonly copy_text: string;
  readonly wkb_hex?: string;
  readonly srid?: number;
}

const vectors = readFileSync(new URL("../../test/golden/extensions.jsonl", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Vector);

const names = ["vector", "halfvec", "sparsevec", "geometry", "geography"] as const;
const oidOf = (type: string) => 50_000 + names.indexOf(type as Vector["type"]);
const types: ReadonlyMap<number, PgType> = new Map(
  names.flatMap((typname): [number, PgType][] => {
    const geo = typname.startsWith("geo");
    const type = { typname, extension: geo ? "postgis" : "vector", delimiter: geo ? ":" : "," };
    return [
      [oidOf(typname), pgType(oidOf(typname), type)],
      [oidOf(typname) + 100, pgType(oidOf(typname) + 100, { elementOid: oidOf(typname) })],
    ];
  }),
);
const planOf = (type: string, typmod = -1): ColumnPlan =>
  planColumns([sourceColumn("v", 1, oidOf(type), typmod)], types)[0]!;
const bytesOf = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));

for (const type of names) {
  test(`values of ${type} are in the file as they are, whether they came in binary or as text`, async () => {
    const group = vectors.filter((vector) => vector.type === type);
    const plan = planOf(type);
    assert.ok(plan.binary);
    const columnSrid = type === "geography" ? 4326 : 0;
    const wires = group.map(({ wire_hex: wire }) => bytesOf(wire));
    const file = await writeTable([plan], [wires]);
    const parsed = group.map(({ copy_text: text }) => plan.parse(text));
    assert.ok(Buffer.from(await writeTable([plan], [parsed])).equals(file), "binary and text differ");
    await using folder = await makeTestFolder();
    const [column, exact] = await readEverywhere(folder, `${type}.parquet`, file);
    for (const [row, vector] of group.entries()) {
      assert.deepEqual(column!.values[row], expected(vector), vector.expr);
      const text =
        vector.srid === undefined || vector.srid === columnSrid ? null : JSON.stringify({ v: vector.copy_text });
      assert.equal(exact!.values[row], text, `exact text of ${vector.expr}`);
      const view = new DataView(wires[row]!.buffer);
      assert.equal(plan.tree.codec.format(wires[row]!, view, 0, wires[row]!.length), vector.copy_text);
    }
  });
}

function expected({ copy_text: text, wkb_hex: wkb }: Vector): Value {
  if (wkb !== undefined) return `x${wkb}`;
  if (!text.startsWith("[")) return text;
  return text
    .slice(1, -1)
    .split(",")
    .map((value) => {
      const number = Math.fround(Number(value));
      return Object.is(number, -0) ? "-0" : String(number);
    });
}

test("an array of vectors is a list of lists", async () => {
  const [plan] = planColumns([sourceColumn("v", 1, oidOf("vector") + 100)], types);
  await using folder = await makeTestFolder();
  const file = await writeTable([plan!], [[plan!.parse('{"[1,2]",NULL,"[3]"}')]]);
  const [column] = await readEverywhere(folder, "vectors.parquet", file);
  assert.deepEqual(column!.values, [[["1", "2"], null, ["3"]]]);
});

test("a column's SRID comes from its type, and the file says what GeoParquet readers ask for", async () => {
  const columns = [
    planOf("geometry", 1_107_460), // Point, 4326
    planOf("geometry", 987_398), // PointZ, 3857
    planOf("geography"),
  ].map((plan, k) => ({ ...plan, fileName: `g${k}`, parquet: { ...plan.parquet, name: `g${k}` } }));
  const point = vectors.find(({ expr }) => expr.includes("SRID=4326;POINT(1 2)"))!;
  const facts = { kind: "copy", schemaVersion: 1, lsnStart: 0n, lsnEnd: 0n, columns } as unknown;
  const leaves = columns.map(() => [new LeafBuffer({ maxDefinition: 1, maxRepetition: 0 })] as const);
  const footer = () => footerKeyValues(facts as Parameters<typeof footerKeyValues>[0], leaves);
  const keyValues = footer();
  const crs = null; // one that is only known by its number
  assert.deepEqual(JSON.parse(keyValues.get("geo")!), {
    version: "1.1.0",
    primary_column: "g0",
    columns: {
      g0: { encoding: "WKB", geometry_types: [] },
      g1: { encoding: "WKB", geometry_types: [], crs },
      g2: { encoding: "WKB", geometry_types: [], edges: "spherical" },
    },
  });
  await using folder = await makeTestFolder();
  const wires = columns.map(() => [bytesOf(point.wire_hex)]);
  const read = await readEverywhere(folder, "geo.parquet", await writeTable(columns, wires, keyValues));
  assert.deepEqual(
    read.map(({ values }) => values[0]),
    [`x${point.wkb_hex}`, `x${point.wkb_hex}`, `x${point.wkb_hex}`, JSON.stringify({ v: point.copy_text })],
  );
  // GeoParquet has no curves, triangles and measures; readers refuse a whole file for one.
  const beyond = ["POINT M", "POINT ZM", "GEOMETRYCOLLECTION ZM"].map(
    (name) => vectors.find(({ expr }) => expr.includes(name))!,
  );
  for (const [k, { wire_hex: wire }] of beyond.entries()) {
    columns[k]!.encode(leaves[k]!, cellsOf([bytesOf(wire)]), new InexactValues());
    assert.deepEqual(
      Object.keys(JSON.parse(footer().get("geo") ?? '{"columns":{}}').columns),
      ["g0", "g1", "g2"].slice(k + 1),
    );
  }
});
