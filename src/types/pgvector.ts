// vector, halfvec and sparsevec of extension pgvector. vector and halfvec are a LIST of FLOAT: their bytes are turned into
// those of a float4 array. sparsevec is a STRING.
// Wire formats: vector_send in https://github.com/pgvector/pgvector/blob/master/src/vector.c, halfvec.c, sparsevec.c: int16
// dimensions, int16 0, float4 or float2 values; sparsevec int32 dimensions, int32 count, int32 0, int32 indexes from 0 on,
// float4 values.
import { writeUnsigned } from "./digits.ts";
import { type Codec, malformed } from "./family.ts";
import { float4Family } from "./fixed-width.ts";
import { formatFloat4, parseFloat4 } from "./float-text.ts";
import { FLOAT8_TEXT_BYTES, writeFloat4 } from "./float8-digits.ts";
import { makeTextFamily, type TextFamily, WireBuilder, writeAscii } from "./text-family.ts";
import { listTree, type Rewire, type TypeTree, valueTree } from "./type-tree.ts";

const FLOAT4_OID = 700;
const HEADER_BYTES = 4;

/** Throws unless the bytes are a header and that many values of `width` bytes; gives their number. */
function dimensionsOf(name: string, width: number, view: DataView, at: number, length: number): number {
  const dimensions = length >= HEADER_BYTES ? view.getInt16(at) : -1;
  const wrong = dimensions < 0 || view.getInt16(at + 2) !== 0 || length !== HEADER_BYTES + dimensions * width;
  if (wrong) throw malformed(name, at - 4, `${dimensions} dimensions in ${length} bytes`);
  return dimensions;
}

type ReadValue = (view: DataView, at: number) => number;
type WriteValue = (wire: WireBuilder, value: number) => void;

function vectorTree(name: string, width: number, read: ReadValue, write: WriteValue): TypeTree {
  const scratch = new DataView(new ArrayBuffer(4));
  const rewire: Rewire = (_bytes, view, at, length, out) => {
    const dimensions = dimensionsOf(name, width, view, at, length);
    for (const header of [dimensions === 0 ? 0 : 1, 0, FLOAT4_OID]) out.int32(header);
    if (dimensions === 0) return true;
    out.int32(dimensions);
    out.int32(1);
    for (let k = 0; k < dimensions; k++) {
      scratch.setFloat32(0, read(view, at + HEADER_BYTES + k * width));
      out.int32(4);
      out.int32(scratch.getInt32(0));
    }
    return true;
  };
  const codec: Codec = {
    name,
    parse: (text) => {
      if (!/^\[[^[\]]*\]$/.test(text)) throw malformed(name, 0, "its text has no brackets");
      const values = text === "[]" ? [] : text.slice(1, -1).split(",").map(parseFloat4);
      if (values.length > 0x7fff) throw malformed(name, 0, "its text has too many values");
      const wire = new WireBuilder().uint16(values.length).uint16(0);
      for (const value of values) write(wire, value);
      return wire.finish();
    },
    format: (_bytes, view, at, length) => {
      const dimensions = dimensionsOf(name, width, view, at, length);
      const texts = Array.from({ length: dimensions }, (_, k) => {
        scratch.setFloat32(0, read(view, at + HEADER_BYTES + k * width));
        return formatFloat4(scratch, 0);
      });
      return `[${texts.join(",")}]`;
    },
  };
  return { codec, shape: { kind: "rewired", rewire, inner: listTree(valueTree(float4Family), FLOAT4_OID) } };
}

export const vectorTrees: ReadonlyMap<string, () => TypeTree> = new Map([
  [
    "vector",
    () =>
      vectorTree(
        "vector",
        4,
        (view, at) => view.getFloat32(at),
        (wire, value) => wire.float32(value),
      ),
  ],
  [
    "halfvec",
    () =>
      vectorTree(
        "halfvec",
        2,
        (view, at) => view.getFloat16(at),
        (wire, value) => wire.float16(value),
      ),
  ],
]);

/** `{index:value,…}/dimensions`, indexes from 1 on. */
export const sparsevecFamily: TextFamily = makeTextFamily(
  "sparsevec",
  {
    measure: (_bytes, view, at, length) => {
      const count = length >= 12 ? view.getInt32(at + 4) : -1;
      const wrong = count < 0 || view.getInt32(at) < count || view.getInt32(at + 8) !== 0 || length !== 12 + 8 * count;
      if (wrong) throw malformed("sparsevec", at - 4, `${count} values in ${length} bytes`);
      for (let k = 0; k < count; k++) {
        const index = view.getInt32(at + 12 + 4 * k);
        if (index < 0 || index >= view.getInt32(at)) throw malformed("sparsevec", at - 4, `index ${index}`);
      }
      return 14 + count * (12 + FLOAT8_TEXT_BYTES);
    },
    write: (out, to, _bytes, view, at) => {
      const count = view.getInt32(at + 4);
      let end = writeAscii(out, to, "{");
      for (let k = 0; k < count; k++) {
        if (k > 0) end = writeAscii(out, end, ",");
        end = writeUnsigned(out, end, view.getInt32(at + 12 + 4 * k) + 1);
        end = writeFloat4(out, writeAscii(out, end, ":"), view, at + 12 + 4 * (count + k));
      }
      return writeUnsigned(out, writeAscii(out, end, "}/"), view.getInt32(at));
    },
  },
  (text) => {
    const match = /^\{(\d+:[^:,{}]+(?:,\d+:[^:,{}]+)*)?\}\/(\d{1,10})$/.exec(text);
    const dimensions = Number(match?.[2]);
    if (!(dimensions <= 0x7fffffff)) throw malformed("sparsevec", 0, "its text is not {index:value}/dimensions");
    const pairs = match![1]?.split(",").map((pair) => pair.split(":") as [string, string]) ?? [];
    const wire = new WireBuilder().int32(dimensions).int32(pairs.length).int32(0);
    for (const [index] of pairs) {
      if (!(Number(index) >= 1 && Number(index) <= dimensions))
        throw malformed("sparsevec", 0, "an index is out of range");
      wire.int32(Number(index) - 1);
    }
    for (const [, value] of pairs) wire.float32(parseFloat4(value));
    return wire.finish();
  },
);
