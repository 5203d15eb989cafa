// Million values per second of each type family: wire bytes into pages, then statistics, dictionary and page bodies.
// By CPU time, so that other work on the machine does not count: the encoder alone; all that this thread does for a
// file; all threads (zstd compresses in others).
// With --path instead the whole COPY from a live server (bench/support/text-path.ts).
//   npm run bench:types -- [--only 'regular expression of names'] [--path] [--rows 500000]
import { parseArgs } from "node:util";
import { Compressor } from "../src/parquet/compressor.ts";
import { ParquetFileWriter } from "../src/parquet/file-writer.ts";
import { LeafBuffer } from "../src/parquet/leaf-buffer.ts";
import { leavesOf } from "../src/parquet/schema.ts";
import { bpcharFamily, byteaFamily, jsonbFamily, textFamily } from "../src/types/bytes.ts";
import { dateFamily, timeFamily, timestamptzFamily } from "../src/types/date-time.ts";
import { type Cells, InexactValues } from "../src/types/family.ts";
import { boolFamily, float4Family, float8Family, int4Family, int8Family, oidFamily } from "../src/types/fixed-width.ts";
import { numericFamily } from "../src/types/numeric.ts";
import { encodeTree } from "../src/types/tree-encoder.ts";
import { listTree, type TypeTree, treeColumn, valueTree } from "../src/types/type-tree.ts";
import { uuidFamily } from "../src/types/uuid.ts";
import { furtherSubjects, type Subject } from "./support/further-subjects.ts";
import { comparePaths } from "./support/text-path.ts";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    path: { type: "boolean", default: false },
    rows: { type: "string", default: "500000" },
  },
});
const valueCount = 1_000_000;
/** Cells of one call, as COPY collects them. */
const cellCount = 4096;
const distinctCalls = 8;

const random = randomNumbers(42);
const hex = (digits: number) => Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join("");
const words = (i: number, length: number) => `${i} ${hex(length)}`.slice(0, length);
const numeric38 = numericFamily(38, 18);

const subjects: readonly Subject[] = [
  { name: "bool", tree: valueTree(boolFamily), text: (i) => (i % 3 ? "t" : "f") },
  { name: "int4", tree: valueTree(int4Family), text: (i) => String(i * 7919) },
  { name: "int8", tree: valueTree(int8Family), text: (i) => String(i * 1_000_003) },
  { name: "oid", tree: valueTree(oidFamily), text: (i) => String(i % 1000) },
  { name: "float4", tree: valueTree(float4Family), text: () => String(Math.fround(random())) },
  { name: "float8", tree: valueTree(float8Family), text: () => String(random()) },
  { name: "numeric(9,2)", tree: valueTree(numericFamily(9, 2)), text: () => (random() * 1e6).toFixed(2) },
  { name: "numeric(12,2)", tree: valueTree(numericFamily(12, 2)), text: () => (random() * 1e6).toFixed(2) },
  { name: "numeric(38,10)", tree: valueTree(numericFamily(38, 10)), text: () => (random() * 1e9).toFixed(6) },
  { name: "numeric", tree: valueTree(numeric38), text: () => (random() * 1e6).toFixed(4) },
  { name: "numeric, negative", sql: "numeric", tree: valueTree(numeric38), text: () => (random() * -1e12).toFixed(3) },
  { name: "date", tree: valueTree(dateFamily), text: (i) => `20${10 + (i % 15)}-0${1 + (i % 9)}-1${i % 10}` },
  { name: "time", tree: valueTree(timeFamily), text: (i) => `1${i % 10}:0${i % 7}:30.${100000 + (i % 899999)}` },
  {
    name: "timestamptz",
    tree: valueTree(timestamptzFamily),
    text: (i) => `2024-03-1${i % 10} 12:00:0${i % 7}.${123456 + i}+00`,
  },
  { name: "text, 8 distinct", sql: "text", tree: valueTree(textFamily), text: (i) => `status ${i % 8}` },
  { name: "text, 20 bytes", sql: "text", tree: valueTree(textFamily), text: (i) => words(i, 20) },
  { name: "text, 60 bytes", sql: "text", tree: valueTree(textFamily), text: (i) => words(i, 60) },
  { name: "text, 400 bytes", sql: "text", tree: valueTree(textFamily), text: (i) => words(i, 400) },
  { name: "char(20)", tree: valueTree(bpcharFamily), text: (i) => words(i, 9).padEnd(20) },
  {
    name: "jsonb",
    tree: valueTree(jsonbFamily),
    text: (i) => `{"id": ${i}, "tags": ["a", "b"], "note": "${hex(20)}"}`,
  },
  { name: "bytea, 32 bytes", sql: "bytea", tree: valueTree(byteaFamily), text: () => `\\x${hex(64)}` },
  { name: "uuid", tree: valueTree(uuidFamily), text: () => `${hex(8)}-${hex(4)}-${hex(4)}-${hex(4)}-${hex(12)}` },
  { name: "int4[] of 5", sql: "int4[]", tree: listTree(valueTree(int4Family), 23), text: (i) => `{${i},2,NULL,4,5}` },
  {
    name: "text[] of 3",
    sql: "text[]",
    tree: listTree(valueTree(textFamily), 25),
    text: (i) => `{${words(i, 10)},b,c}`.replaceAll(" ", "_"),
  },
];

const chosen = [...subjects, ...furtherSubjects(random)].filter(({ name }) => new RegExp(options.only).test(name));
if (options.path) await comparePaths(chosen, Number(options.rows));
else await compareEncoders();

async function compareEncoders(): Promise<void> {
  console.log("million values (rows of arrays) per CPU second     encode   thread      all   thread: of their text's");
  for (const subject of chosen) {
    const texts = Array.from({ length: distinctCalls * cellCount }, (_, i) => subject.text(i));
    const measured = await measure(subject.tree, texts);
    // The text path: what a type without a decoder of its own costs.
    const ofText = measured.thread / (await measure(valueTree(textFamily), texts)).thread;
    const figures = [measured.encoding, measured.thread, measured.all].map((figure) => figure.toFixed(1).padStart(8));
    console.log(`${subject.name.padEnd(48)} ${figures.join(" ")} ${ofText.toFixed(2).padStart(8)}`);
  }
}

async function measure(tree: TypeTree, texts: readonly string[]) {
  const calls = Array.from({ length: distinctCalls }, (_, call) =>
    cellsOf(tree, texts.slice(call * cellCount, (call + 1) * cellCount)),
  );
  encodeOnly(tree, calls);
  const encoding = Math.max(encodeOnly(tree, calls), encodeOnly(tree, calls), encodeOnly(tree, calls));
  await whole(tree, calls);
  return { encoding, ...(await whole(tree, calls)) };
}

function columnOf(tree: TypeTree) {
  return treeColumn(tree, "c", (path) => 1 + path.length);
}

function encodeOnly(tree: TypeTree, calls: readonly Cells[]): number {
  const leaves = leavesOf(columnOf(tree)).map((leaf) => new LeafBuffer(leaf));
  const encode = encodeTree(tree);
  const inexact = new InexactValues();
  const start = threadMs();
  for (let done = 0, call = 0; done < valueCount; done += cellCount, call++) {
    encode(leaves, calls[call % distinctCalls]!, inexact);
    if (call % 5 === 4) for (const leaf of leaves) leaf.restart();
  }
  return millionPerSecond(threadMs() - start);
}

async function whole(tree: TypeTree, calls: readonly Cells[]): Promise<{ thread: number; all: number }> {
  const sink = { write: () => Promise.resolve() };
  const writer = new ParquetFileWriter(sink, [columnOf(tree)], {
    rowGroupBytes: 64 << 20,
    createdBy: "pg-flo version 0.0.0 (build bench)",
    compressor: new Compressor("zstd"),
  });
  const encode = encodeTree(tree);
  const inexact = new InexactValues();
  const start = threadMs();
  const allStart = allMs();
  for (let done = 0, call = 0; done < valueCount; done += cellCount, call++) {
    encode(writer.columns[0]!, calls[call % distinctCalls]!, inexact);
    await writer.endRows(cellCount);
  }
  await writer.finish(new Map());
  return { thread: millionPerSecond(threadMs() - start), all: millionPerSecond(allMs() - allStart) };
}

function threadMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function allMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function millionPerSecond(ms: number): number {
  return valueCount / 1000 / ms;
}

/** Rows as they lie in COPY data: values behind each other with their lengths. */
function cellsOf(tree: TypeTree, texts: readonly string[]): Cells {
  const wires = texts.map((text) => tree.codec.parse(text));
  const bytes = new Uint8Array(wires.reduce((size, wire) => size + 4 + wire.length, 0));
  const view = new DataView(bytes.buffer);
  const positions = new Int32Array(cellCount);
  let at = 0;
  for (const [i, wire] of wires.entries()) {
    positions[i] = at;
    view.setInt32(at, wire.length);
    bytes.set(wire, at + 4);
    at += 4 + wire.length;
  }
  return { bytes, view, positions, count: cellCount };
}

function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 0x100000000;
  };
}
