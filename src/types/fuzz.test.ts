// Bytes and texts that are no values: an encoder may only take them or throw PROTOCOL_VIOLATION with the place.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodes, testDamage } from "../../test/support/damaged-values.ts";
import { bpcharFamily, byteaFamily, jsonbFamily, jsonFamily, textFamily } from "./bytes.ts";
import { dateFamily, timeFamily, timestampFamily, timestamptzFamily } from "./date-time.ts";
import type { Family } from "./family.ts";
import {
  boolFamily,
  float4Family,
  float8Family,
  int2Family,
  int4Family,
  int8Family,
  oidFamily,
} from "./fixed-width.ts";
import { numericFamily } from "./numeric.ts";
import { listTree, valueTree } from "./type-tree.ts";
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

for (const { family, texts } of subjects) {
  // Digits that the server would not send, behind dscale, are no part of a numeric, and neither are bytes that are no UTF-8.
  const roundTrip = !["numeric", "text", "bpchar", "json", "jsonb"].includes(family.name);
  testDamage({ name: nameOf(family), tree: valueTree(family), texts, roundTrip });
}

function nameOf({ name, type: { logical } }: Family): string {
  return logical.kind === "decimal" ? `${name}(${logical.precision},${logical.scale})` : name;
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
