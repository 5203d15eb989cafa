// From a type's wire bytes into the leaves of its column. Each node of the tree takes the entries of its level (where
// their values start, or the cell code of what is missing), and hands its children theirs: a code only has to be
// counted down by the levels in between. So the encoders of src/types need not know how deep they are.
// Sources: array_send, record_send (rowtypes.c), hstore_send (contrib/hstore/hstore_io.c); levels as in
// https://github.com/apache/parquet-format#nested-encoding
import { CELL_NULL, LeafBuffer } from "../parquet/leaf-buffer.ts";
import { locateFields } from "./composite-wire.ts";
import { type Cells, type EncodeColumn, type Family, InexactValues, malformed } from "./family.ts";
import { dimensionCount, elementCount, locateElements, lowerBound } from "./list.ts";
import { type Rewire, type StructField, type TypeTree, WireWriter } from "./type-tree.ts";

/** Entries of one level. Without lists above, they are the rows themselves: `rows` and `repetitions` are null. */
interface Entries {
  positions: Int32Array;
  count: number;
  rows: Int32Array | null;
  repetitions: Uint8Array | null;
}

interface Context {
  bytes: Uint8Array;
  view: DataView;
  leaves: readonly LeafBuffer[];
  /** Rows with something inside that the file cannot hold exactly. */
  readonly flawed: Set<number>;
}

type EncodeNode = (entries: Entries, context: Context) => void;

/** The encoder of a whole column. Encodes synchronously and keeps its own working memory, so one column has one. */
export function encodeTree(tree: TypeTree): EncodeColumn {
  if (tree.shape.kind === "value") {
    const { encode } = tree.shape.family;
    return (leaves, cells, inexact) => encode(leaves[0]!, cells, inexact);
  }
  const node = nodeOf(tree, { leaf: 0 }, 0);
  const entries: Entries = { positions: new Int32Array(0), count: 0, rows: null, repetitions: null };
  const flawed = new Set<number>();
  return (leaves, { bytes, view, positions, count }, inexact) => {
    entries.positions = positions;
    entries.count = count;
    node(entries, { bytes, view, leaves, flawed });
    if (flawed.size === 0) return;
    for (const row of flawed) {
      const at = positions[row]!;
      inexact.add(row, tree.codec.format(bytes, view, at + 4, view.getInt32(at)));
    }
    flawed.clear();
  };
}

/** `next.leaf`: the first leaf of the node; `depth`: lists and maps above it. */
function nodeOf({ shape }: TypeTree, next: { leaf: number }, depth: number): EncodeNode {
  switch (shape.kind) {
    case "value":
      return valueNode(shape.family, next.leaf++);
    case "list":
      return listNode(nodeOf(shape.element, next, depth + 1), depth + 1);
    case "map": {
      const key = valueNode(shape.key, next.leaf++);
      return mapNode(key, nodeOf(shape.value, next, depth + 1), depth + 1);
    }
    case "struct":
      return structNode(
        shape.fields,
        shape.fields.map((field) => nodeOf(field.tree, next, depth)),
      );
    case "rewired":
      return rewiredNode(shape.rewire, nodeOf(shape.inner, next, depth));
  }
}

function valueNode({ encode }: Family, leafIndex: number): EncodeNode {
  const inexact = new InexactValues();
  const cells: Cells = { bytes: new Uint8Array(0), view: new DataView(new ArrayBuffer(0)), positions: none, count: 0 };
  return ({ positions, count, rows, repetitions }, { bytes, view, leaves, flawed }) => {
    const leaf = leaves[leafIndex]!;
    cells.bytes = bytes;
    cells.view = view;
    cells.positions = positions;
    cells.count = count;
    // Only now: making room for more entries does not keep levels that are ahead of the page's count.
    leaf.reserveEntries(count);
    if (repetitions) leaf.repetitions.set(repetitions.subarray(0, count), leaf.entryCount);
    encode(leaf, cells, inexact);
    if (inexact.indexes.length === 0) return;
    for (const index of inexact.indexes) flawed.add(rows ? rows[index]! : index);
    inexact.clear();
  };
}

const none = new Int32Array(0);

/** Entries below a list or a map, which have rows and repetition levels. */
class ListEntries {
  positions = new Int32Array(1024);
  rows = new Int32Array(1024);
  repetitions = new Uint8Array(1024);
  count = 0;

  add(row: number, repetition: number, position: number): void {
    this.reserve(1);
    this.positions[this.count] = position;
    this.rows[this.count] = row;
    this.repetitions[this.count++] = repetition;
  }

  reserve(count: number): void {
    const needed = this.count + count;
    if (needed <= this.rows.length) return;
    const length = Math.max(needed, this.rows.length * 2);
    const grown = {
      positions: new Int32Array(length),
      rows: new Int32Array(length),
      repetitions: new Uint8Array(length),
    };
    grown.positions.set(this.positions);
    grown.rows.set(this.rows);
    grown.repetitions.set(this.repetitions);
    this.positions = grown.positions;
    this.rows = grown.rows;
    this.repetitions = grown.repetitions;
  }

  /** Levels of `count` entries from the next one on: those of the list's first element, then of the others. */
  mark(count: number, row: number, firstRepetition: number, repetition: number): void {
    const { rows, repetitions, count: from } = this;
    for (let k = from; k < from + count; k++) {
      rows[k] = row;
      repetitions[k] = repetition;
    }
    repetitions[from] = firstRepetition;
    this.count = from + count;
  }
}

/** What a NULL above becomes one, or two levels further down; and an empty list for its elements. */
const BELOW_OPTIONAL = 1;
const BELOW_REPEATED = 2;
const EMPTY_LIST = -2;
const NULL_LIST = -3;

/** A list whose elements cannot be told by a LIST of one dimension is NULL, and the row's text tells them. */
function listNode(element: EncodeNode, depth: number): EncodeNode {
  const inner = new ListEntries();
  return ({ positions, count, rows, repetitions }, context) => {
    const { view, flawed } = context;
    inner.count = 0;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      const row = rows ? rows[i]! : i;
      const repetition = repetitions ? repetitions[i]! : 0;
      if (at < 0) {
        inner.add(row, repetition, at - BELOW_REPEATED);
        continue;
      }
      const dimensions = dimensionCount(view, at);
      if (dimensions === 0) {
        inner.add(row, repetition, EMPTY_LIST);
        continue;
      }
      const elements = elementCount(view, at, dimensions);
      if (dimensions === 1) {
        inner.reserve(elements);
        locateElements(view, at, 1, elements, inner.positions, inner.count);
        inner.mark(elements, row, repetition, depth);
        if (lowerBound(view, at) !== 1) flawed.add(row);
      } else {
        const all = new Int32Array(elements);
        locateElements(view, at, dimensions, elements, all, 0);
        checkValues(element, all, context);
        inner.add(row, repetition, NULL_LIST);
        flawed.add(row);
      }
    }
    element(inner, context);
  };
}

/** Values that are only told as text are checked all the same: encoded into pages that are thrown away. */
function checkValues(node: EncodeNode, positions: Int32Array, { bytes, view, leaves }: Context): void {
  const { length: count } = positions;
  const scratch = leaves.map(({ present, maxRepetition }) => new LeafBuffer({ maxDefinition: present, maxRepetition }));
  const entries = { positions, count, rows: new Int32Array(count), repetitions: new Uint8Array(count) };
  node(entries, { bytes, view, leaves: scratch, flawed: new Set() });
}

function structNode(fields: readonly StructField[], nodes: readonly EncodeNode[]): EncodeNode {
  const positions = fields.map(() => new Int32Array(1024));
  const found = new Int32Array(fields.length);
  return ({ positions: records, count, rows, repetitions }, context) => {
    const { view } = context;
    if (positions[0]!.length < count)
      for (let k = 0; k < positions.length; k++) positions[k] = new Int32Array(count * 2);
    for (let i = 0; i < count; i++) {
      const at = records[i]!;
      if (at < 0) {
        for (const ofField of positions) ofField[i] = at - BELOW_OPTIONAL;
        continue;
      }
      locateFields(view, at + 4, view.getInt32(at), fields, found);
      for (let k = 0; k < found.length; k++) {
        positions[k]![i] = view.getInt32(found[k]!) < 0 ? CELL_NULL : found[k]!;
      }
    }
    for (let k = 0; k < nodes.length; k++) nodes[k]!({ positions: positions[k]!, count, rows, repetitions }, context);
  };
}

function mapNode(key: EncodeNode, value: EncodeNode, depth: number): EncodeNode {
  const keys = new ListEntries();
  const values = new ListEntries();
  return ({ positions, count, rows, repetitions }, context) => {
    const { view } = context;
    keys.count = 0;
    values.count = 0;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      const row = rows ? rows[i]! : i;
      const repetition = repetitions ? repetitions[i]! : 0;
      const pairs = at < 0 ? 0 : pairCount(view, at);
      if (pairs === 0) {
        // A key is never NULL, so it has one level less than a value.
        keys.add(row, repetition, at < 0 ? at - BELOW_OPTIONAL : CELL_NULL);
        values.add(row, repetition, at < 0 ? at - BELOW_REPEATED : EMPTY_LIST);
        continue;
      }
      keys.reserve(pairs);
      values.reserve(pairs);
      locatePairs(view, at, pairs, keys, values);
      keys.mark(pairs, row, repetition, depth);
      values.mark(pairs, row, repetition, depth);
    }
    key(keys, context);
    value(values, context);
  };
}

function pairCount(view: DataView, at: number): number {
  const length = view.getInt32(at);
  const pairs = length >= 4 ? view.getInt32(at + 4) : -1;
  if (pairs < 0 || pairs * 8 > length) throw malformed("hstore", at, `${pairs} pairs in ${length} bytes`);
  if (pairs === 0 && length !== 4) throw malformed("hstore", at, "it is empty and has pairs");
  return pairs;
}

function locatePairs(view: DataView, at: number, pairs: number, keys: ListEntries, values: ListEntries): void {
  const end = at + 4 + view.getInt32(at);
  let next = at + 8;
  for (let k = 0; k < pairs; k++) {
    const keySize = next + 8 <= end ? view.getInt32(next) : -1;
    const valueAt = next + 4 + keySize;
    const valueSize = keySize >= 0 && valueAt + 4 <= end ? view.getInt32(valueAt) : -2;
    if (valueSize < -1 || valueAt + 4 + valueSize > end) throw malformed("hstore", at, `pair ${k} ends outside of it`);
    keys.positions[keys.count + k] = next;
    values.positions[values.count + k] = valueSize < 0 ? CELL_NULL : valueAt;
    next = valueAt + 4 + Math.max(0, valueSize);
  }
  if (next !== end) throw malformed("hstore", at, "there are bytes behind its last pair");
}

function rewiredNode(rewire: Rewire, inner: EncodeNode): EncodeNode {
  const out = new WireWriter();
  let positions = new Int32Array(1024);
  return ({ positions: originals, count, rows, repetitions }, { bytes, view, leaves, flawed }) => {
    if (positions.length < count) positions = new Int32Array(count * 2);
    out.end = 0;
    for (let i = 0; i < count; i++) {
      const at = originals[i]!;
      if (at < 0) {
        positions[i] = at;
        continue;
      }
      const from = out.end;
      out.int32(0);
      if (!rewire(bytes, view, at + 4, view.getInt32(at), out)) flawed.add(rows ? rows[i]! : i);
      out.view.setInt32(from, out.end - from - 4);
      positions[i] = from;
    }
    const context: Context = { bytes: out.bytes, view: out.view, leaves, flawed };
    inner({ positions, count, rows, repetitions }, context);
  };
}
