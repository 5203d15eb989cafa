// Bytes and texts that are damaged: a decoder may only take them or throw our error with the place.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PgFloError } from "../../src/base/errors.ts";
import { LEVEL_HEADROOM_BYTES, LeafBuffer } from "../../src/parquet/leaf-buffer.ts";
import { leavesOf, type ParquetColumn } from "../../src/parquet/schema.ts";
import { InexactValues } from "../../src/types/family.ts";
import { encodeTree } from "../../src/types/tree-encoder.ts";
import { listTree, type TypeTree, treeColumn } from "../../src/types/type-tree.ts";
import { cellsOf } from "./table-files.ts";

export interface DamagedType {
  readonly name: string;
  readonly tree: TypeTree;
  /** Text outputs of values; `1e` stands for one that is none. */
  readonly texts: readonly string[];
  /** What was taken is what its text says. */
  readonly roundTrip: boolean;
  readonly delimiter?: string;
}

/** Tests of the type and of arrays of it. */
export function testDamage(damagedType: DamagedType): void {
  const { name, tree, texts, roundTrip, delimiter = "," } = damagedType;
  const { codec } = tree;
  const list = listTree(tree, 1, delimiter);
  test(`damaged bytes of ${name} are refused, or are a value`, () => {
    fc.assert(
      fc.property(damaged(wiresOf(damagedType)), (wire) => {
        if (!encodes(tree, wire)) return;
        const view = new DataView(wire.buffer, wire.byteOffset, wire.length);
        const text = codec.format(wire, view, 0, wire.length);
        if (!roundTrip || text.includes("\ufffd")) return;
        assert.deepEqual(plainOf(tree, codec.parse(text)), plainOf(tree, wire));
      }),
      { numRuns: 1500 },
    );
  });

  test(`damaged bytes of arrays of ${name} are refused, or are an array`, () => {
    fc.assert(
      fc.property(damaged(listWiresOf(damagedType, list)), (wire) => {
        if (!encodes(list, wire)) return;
        const view = new DataView(wire.buffer, wire.byteOffset, wire.length);
        assert.equal(typeof list.codec.format(wire, view, 0, wire.length), "string");
      }),
      { numRuns: 1500 },
    );
  });

  test(`texts that are none of ${name} are refused, or are a value`, () => {
    const damage = fc.record({
      text: fc.constantFrom(...texts),
      at: fc.nat(40),
      insert: fc.string({ maxLength: 2 }),
      cut: fc.nat(2),
    });
    const text = fc.oneof(
      fc.string({ maxLength: 30 }),
      fc.string({ unit: fc.constantFrom(...`0123456789.-+e:T{},"\\ NULinfty[]=()<>'&|!/$`), maxLength: 30 }),
      damage.map(({ text, at, insert, cut }) => text.slice(0, at) + insert + text.slice(at + cut)),
    );
    fc.assert(
      fc.property(text, (value) => {
        const wire = parsed(() => codec.parse(value));
        if (wire) encodes(tree, wire);
        for (const array of [
          value,
          `{${value}}`,
          `[2:3]={${value}${delimiter}NULL}`,
          `{{${value}}${delimiter}{${value}}}`,
        ]) {
          const listWire = parsed(() => list.codec.parse(array));
          if (listWire) encodes(list, listWire);
        }
      }),
      { numRuns: 1000 },
    );
  });
}

function wiresOf({ tree, texts }: DamagedType): Uint8Array[] {
  return texts.filter((text) => text !== "1e").map((text) => tree.codec.parse(text));
}

function listWiresOf({ texts, delimiter = "," }: DamagedType, list: TypeTree): Uint8Array[] {
  const quoted = texts.filter((text) => text !== "1e").map((text) => `"${text.replace(/["\\]/g, "\\$&")}"`);
  const lists = [
    `{${quoted.join(delimiter)}}`,
    `{${quoted[0]}${delimiter}NULL}`,
    "{}",
    `{{${quoted[0]}}${delimiter}{NULL}}`,
    `[0:0]={${quoted[0]}}`,
  ];
  return lists.map((text) => list.codec.parse(text));
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
export function encodes(tree: TypeTree, wire: Uint8Array): boolean {
  const leaves = leavesOf(columnOf(tree)).map((leaf) => new LeafBuffer(leaf));
  const inexact = new InexactValues();
  try {
    encodeTree(tree)(leaves, cellsOf([wire]), inexact);
  } catch (error) {
    assert.ok(error instanceof PgFloError, `not our error: ${error}`);
    assert.ok(expectedCodes.has(error.code), error.message);
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

/** A composite of other fields than its type's says that the type has changed. */
const expectedCodes: ReadonlySet<string> = new Set(["PROTOCOL_VIOLATION", "TABLE_CHANGED"]);

function parsed(parse: () => Uint8Array): Uint8Array | null {
  try {
    return parse();
  } catch (error) {
    assert.ok(error instanceof PgFloError && expectedCodes.has(error.code), `not our error: ${error}`);
    return null;
  }
}
