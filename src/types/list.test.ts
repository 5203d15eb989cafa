import assert from "node:assert/strict";
import { test } from "node:test";
import { makeTestFolder } from "../../test/support/folder.ts";
import { MemorySink } from "../../test/support/parquet-files.ts";
import { readEverywhere } from "../../test/support/parquet-readers.ts";
import { cellsOf } from "../../test/support/table-files.ts";
import { Compressor } from "../parquet/compressor.ts";
import { ParquetFileWriter } from "../parquet/file-writer.ts";
import { InexactValues } from "./family.ts";
import { int4Family } from "./fixed-width.ts";
import { formatList, parseList } from "./list.ts";
import { encodeTree } from "./tree-encoder.ts";
import { listTree, treeColumn, valueTree } from "./type-tree.ts";

test("elements are told apart by the delimiter of their type, whatever it is", () => {
  const texts = { ",": "{1,NULL,3}", ";": "{1;NULL;3}", ":": "{1:NULL:3}", "|": "{{1|NULL}|{3|4}}" };
  for (const [delimiter, text] of Object.entries(texts)) {
    const { bytes, view, positions } = cellsOf([parseList(int4Family, 23, text, delimiter)]);
    assert.equal(formatList(int4Family, bytes, view, positions[0]! + 4, delimiter), text);
  }
});

test("many elements encoded at once keep their rows, whatever room the page had", async () => {
  const sink = new MemorySink();
  const tree = listTree(valueTree(int4Family), 23);
  const column = treeColumn(tree, "a", (path) => 1 + path.length);
  const writer = new ParquetFileWriter(sink, [column], {
    rowGroupBytes: 1 << 20,
    createdBy: "pg-flo version 0.0.0 (build test)",
    compressor: new Compressor("zstd"),
  });
  const encode = encodeTree(tree);
  const expected: (string | null)[][] = [];
  for (let call = 0; call < 3; call++) {
    const rows = Array.from({ length: 700 + call * 500 }, (_, row) =>
      Array.from({ length: row % 7 }, (_, k) => (k === 3 ? null : String(row * 10 + k))),
    );
    expected.push(...rows);
    const wires = rows.map((row) => parseList(int4Family, 23, `{${row.map((item) => item ?? "NULL").join(",")}}`));
    const positions = new Int32Array(wires.length);
    const bytes = Buffer.alloc(wires.reduce((size, wire) => size + 4 + wire.length, 0));
    let at = 0;
    for (const [row, wire] of wires.entries()) {
      positions[row] = at;
      bytes.writeInt32BE(wire.length, at);
      bytes.set(wire, at + 4);
      at += 4 + wire.length;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const inexact = new InexactValues();
    encode(writer.columns[0]!, { bytes, view, positions, count: rows.length }, inexact);
    await writer.endRows(rows.length);
    assert.deepEqual(inexact.indexes, []);
  }
  await writer.finish(new Map());
  await using folder = await makeTestFolder();
  const [read] = await readEverywhere(folder, "lists.parquet", sink.bytes());
  assert.deepEqual(read!.values, expected);
});
