// Bytes and texts that are no values: an encoder may only take them or throw PROTOCOL_VIOLATION with the place.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cellsOf } from "../../test/support/table-files.ts";
import { PgFloError } from "../base/errors.ts";
import { LEVEL_HEADROOM_BYTES, LeafBuffer } from "../parquet/leaf-buffer.ts";
import { leavesOf, type ParquetColumn } from "../parquet/schema.ts";
import { bpcharFamily, byteaFamily, jsonbFamily, jsonFamily, textFamily } from "./bytes.ts";
import { dateFamily, timeFamily, timestampFamily, timestamptzFamily } from "./date-time.ts";
import { type Family, InexactValues } from "./family.ts";
import {
  boolFamily,
  float4Family,
  float8Family,
  int2Family,
  int4Family,
  int8Family,
  oidFamily,
} from "./fixed-width.ts";
import { formatList, parseList } from "./list.ts";
import { numericFamily } from "./numeric.ts";
import { encodeTree } from "./tree-encoder.ts";
import { listTree, type TypeTree, treeColumn, valueTree } from "./type-tree.ts";
import { uuidFamily } from "./uuid.ts";

interface Subject {
  readonly family: Family;
  readonly texts: readonly string[];
}

const subjects: readonly Subject[] = [
  { family: boolFamily, texts: ["t", "f"] },
  { family: int2Family, texts: ["-32768", "7"] },
  { family: int4Family, texts: ["-1", "2147483647"] },
  { family: int8Family, texts: ["-9223372036854775808", "12"] },
  { family: oidFamily, texts: ["4294967295"] },
  { family: float4Family, texts: ["1.5", "NaN", "-0"] },
  { family: float8Family, texts: ["1.5", "Infinity", "1e-300"] },
  { family: numericFamily(9, 2), texts: ["123.45", "-0.01", "NaN", "1e"] },
  { family: numericFamily(18, 6), texts: ["123456789012.345678", "Infinity"] },
  { family: numericFamily(38, 18), texts: ["-12345678901234567890.123456789012345678", "0.5", "-Infinity"] },
  { family: numericFamily(29, 4), texts: ["1234567890123456789012345.6789"] },
  { family: dateFamily, texts: ["2024-02-29", "infinity", "0044-03-15 BC"] },
  { family: timeFamily, texts: ["24:00:00", "12:34:56.789"] },
  { family: timestampFamily, texts: ["2024-02-29 12:00:00.5", "-infinity"] },
  { family: timestamptzFamily, texts: ["2024-02-29 12:00:00+00", "294276-12-31 23:59:59+00"] },
  { family: uuidFamily, texts: ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"] },
  { family: textFamily, texts: ["", "some text"] },
  { family: bpcharFamily, texts: ["", "a  "] },
  { family: jsonFamily, texts: ["{}"] },
  { family: jsonbFamily, texts: ["{}"] },
  { family: byteaFamily, texts: ["\\x", "\\x00ff"] },
];

function wiresOf({ family, texts }: Subject): Uint8Array[] {
  return texts.filter((text) => text !== "1e").map((text) => family.parse(text));
}

function listWiresOf(subject: Subject): Uint8Array[] {
  const { family, texts } = subject;
  const quoted = texts.filter((text) => text !== "1e").map((text) => `"${text.replace(/["\\]/g, "\\$&")}"`);
  const lists = [
    `{${quoted.join(",")}}`,
    `{${quoted[0]},NULL}`,
    "{}",
    `{{${quoted[0]}},{NULL}}`,
    `[0:0]={${quoted[0]}}`,
  ];
  return lists.map((text) => parseList(family, 1, text));
}

/** Random bytes, and valid ones that were cut, extended or changed in a few places. */
function damaged(valid: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const change = fc.record({ at: fc.nat(60), byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)) });
  const mutated = fc
    .record({
      wire: fc.constantFrom(...valid),
      changes: fc.array(change, { maxLength: 3 }),
      cut: fc.nat(6),
      more: fc.uint8Array({ maxLength: 3 }),
    })
    .map(({ wire, changes, cut, more }) => {
      const bytes = Uint8Array.from([...wire.subarray(0, Math.max(0, wire.length - cut)), ...more]);
      for (const { at, byte } of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte;
      return bytes;
    });
  return fc.oneof(fc.uint8Array({ maxLength: 60 }), mutated, mutated);
}

/** True when the bytes were taken. The value ends where the buffer ends, so that reading on would show. */
function encodes(tree: TypeTree, wire: Uint8Array): boolean {
  const leaves = leavesOf(columnOf(tree)).map((leaf) => new LeafBuffer(leaf));
  const inexact = new InexactValues();
  try {
    encodeTree(tree)(leaves, cellsOf([wire]), inexact);
  } catch (error) {
    assert.ok(error instanceof PgFloError, `not our error: ${error}`);
    assert.equal(error.code, "PROTOCOL_VIOLATION");
    assert.equal(typeof error.facts.offset, "number");
    return false;
  }
  for (const leaf of leaves) {
    assert.ok(leaf.entryCount >= 1 && leaf.valueCount <= leaf.entryCount);
    assert.ok(leaf.maxRepetition > 0 || leaf.entryCount === 1);
  }
  assert.ok(inexact.indexes.every((index) => index === 0));
  return true;
}

function columnOf(tree: TypeTree): ParquetColumn {
  return treeColumn(tree, "v", (path) => 1 + path.length);
}

function plainOf(tree: TypeTree, wire: Uint8Array): { bytes: readonly string[]; texts: readonly string[] } {
  const leaves = leavesOf(columnOf(tree)).map((leaf) => new LeafBuffer(leaf));
  const inexact = new InexactValues();
  encodeTree(tree)(leaves, cellsOf([wire]), inexact);
  const bytes = leaves.map((leaf) => Buffer.from(leaf.bytes.subarray(LEVEL_HEADROOM_BYTES, leaf.end)).toString("hex"));
  return { bytes, texts: inexact.texts };
}

const nameOf = ({ name, type: { logical } }: Family) =>
  logical.kind === "decimal" ? `${name}(${logical.precision},${logical.scale})` : name;

for (const subject of subjects) {
  const { family } = subject;
  const tree = valueTree(family);
  test(`damaged bytes of ${nameOf(family)} are refused, or are a value`, () => {
    fc.assert(
      fc.property(damaged(wiresOf(subject)), (wire) => {
        if (!encodes(tree, wire)) return;
        // What was taken is what its text says. Digits that the server would not send, behind dscale, are no part of it,
        // and neither are bytes that are no UTF-8.
        if (family.name === "numeric" || ["text", "bpchar", "json", "jsonb"].includes(family.name)) return;
        const view = new DataView(wire.buffer, wire.byteOffset, wire.length);
        const again = family.parse(family.format(wire, view, 0, wire.length));
        assert.deepEqual(plainOf(tree, again), plainOf(tree, wire));
      }),
      { numRuns: 1500 },
    );
  });

  test(`damaged bytes of arrays of ${nameOf(family)} are refused, or are an array`, () => {
    const list = listTree(tree, 1);
    fc.assert(
      fc.property(damaged(listWiresOf(subject)), (wire) => {
        if (!encodes(list, wire)) return;
        const view = new DataView(wire.buffer, wire.byteOffset, wire.length);
        assert.equal(typeof formatList(family, wire, view, 0), "string");
      }),
      { numRuns: 1500 },
    );
  });

  test(`texts that are none of ${nameOf(family)} are refused, or are a value`, () => {
    const damage = fc.record({
      text: fc.constantFrom(...subject.texts),
      at: fc.nat(40),
      insert: fc.string({ maxLength: 2 }),
      cut: fc.nat(2),
    });
    const text = fc.oneof(
      fc.string({ maxLength: 30 }),
      fc.string({ unit: fc.constantFrom(...'0123456789.-+e:T{},"\\ NULinfty[]='), maxLength: 30 }),
      damage.map(({ text, at, insert, cut }) => text.slice(0, at) + insert + text.slice(at + cut)),
    );
    const list = listTree(tree, 1);
    fc.assert(
      fc.property(text, (value) => {
        const wire = parsed(() => family.parse(value));
        if (wire) encodes(tree, wire);
        for (const array of [value, `{${value}}`, `[2:3]={${value},NULL}`, `{{${value}},{${value}}}`]) {
          const listWire = parsed(() => parseList(family, 1, array));
          if (listWire) encodes(list, listWire);
        }
      }),
      { numRuns: 1000 },
    );
  });
}

function parsed(parse: () => Uint8Array): Uint8Array | null {
  try {
    return parse();
  } catch (error) {
    assert.ok(error instanceof PgFloError && error.code === "PROTOCOL_VIOLATION", `not our error: ${error}`);
    return null;
  }
}

test("a value that Postgres cannot have is refused", () => {
  const refused: readonly (readonly [Family, string])[] = [
    [boolFamily, "02"],
    [numericFamily(9, 2), "0001000000000000 2710"],
    [numericFamily(38, 18), "0001000000000000 2710"],
    [numericFamily(9, 2), "0001000012340000 0001"],
    [numericFamily(38, 18), "0001000012340000 0001"],
    [numericFamily(38, 18), "0002000000000000 0001"],
    [timeFamily, "ffffffffffffffff"],
    [timeFamily, "000000141dd76001"],
    [jsonbFamily, "027b7d"],
    [jsonbFamily, ""],
    [uuidFamily, "00"],
    [dateFamily, "0000000000"],
  ];
  for (const [family, hex] of refused) {
    const wire = new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
    assert.equal(encodes(valueTree(family), wire), false, `${nameOf(family)} ${hex}`);
  }
});

test("arrays whose header does not fit their elements are refused", () => {
  const header = (dimensions: string, rest: string) => `${dimensions}00000000 00000017 ${rest}`;
  const refused = [
    header("00000001", "ffffffff 00000001"), // a negative size
    header("00000001", "00000000 00000001"), // none, but a dimension
    header("00000001", "7fffffff 00000001 00000004 00000001"),
    header("00000002", "ffffffff 00000001 ffffffff 00000001 00000004 00000001"),
    header("00000006", "7fffffff 00000001".repeat(6)),
    header("00000007", "00000001 00000001".repeat(7)),
    header("00000000", "00000004 00000001"),
    header("00000001", "00000001 00000001 00000004 00000001 00"),
    header("00000001", "00000001 00000001 7fffffff 00000001"),
    header("00000001", "00000001 00000001 fffffffe"),
  ];
  const list = listTree(valueTree(int4Family), 23);
  for (const hex of refused) {
    const wire = new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
    assert.equal(encodes(list, wire), false, hex);
  }
});
