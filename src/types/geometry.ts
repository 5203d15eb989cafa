// point, line, lseg, box, path, polygon, circle; cube of the extension: floats in a STRING as Postgres prints it.
// Wire formats: the send functions in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/geo_ops.c and
// contrib/cube/cube.c: float8 values; path has uint8 closed and int32 count in front, polygon the count, cube uint32.
import { malformed } from "./family.ts";
import { parseFloat8 } from "./float-text.ts";
import { FLOAT8_TEXT_BYTES, writeFloat8 } from "./float8-digits.ts";
import { fixedMeasure, makeTextFamily, type TextFamily, WireBuilder, type Write } from "./text-family.ts";

/** A float with what stands around it. */
const VALUE_BYTES = FLOAT8_TEXT_BYTES + 4;
const POINT_BYTES = 16;
const CUBE_POINT = 0x80000000;
const CUBE_MAX_DIMENSIONS = 100;
const [OPEN, CLOSE, COMMA, SPACE, LESS, GREATER] = [..."(), <>"].map((sign) => sign.charCodeAt(0)) as Six;
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [..."[]{}"].map((sign) => sign.charCodeAt(0)) as Six;
type Six = [number, number, number, number, number, number];

/** `(x,y)` pairs with commas between them. */
function writePoints(out: Uint8Array, to: number, view: DataView, at: number, count: number): number {
  let end = to;
  for (let k = 0; k < count; k++) {
    if (k > 0) out[end++] = COMMA;
    out[end] = OPEN;
    end = writeFloat8(out, end + 1, view, at + k * POINT_BYTES);
    out[end] = COMMA;
    end = writeFloat8(out, end + 1, view, at + k * POINT_BYTES + 8);
    out[end++] = CLOSE;
  }
  return end;
}

function writeBetween(
  out: Uint8Array,
  to: number,
  open: number,
  close: number,
  view: DataView,
  at: number,
  points: number,
) {
  out[to] = open;
  const end = writePoints(out, to + 1, view, at, points);
  out[end] = close;
  return end + 1;
}

/** A type of `floats` float8 values. */
function fixedFamily(name: string, floats: number, write: Write, pattern: RegExp): TextFamily {
  return makeTextFamily(
    name,
    { plain: true, measure: fixedMeasure(name, floats * 8, floats * VALUE_BYTES), write },
    (text) => {
      if (!pattern.test(text)) throw malformed(name, 0, "its text is not of the type");
      const values = floatsIn(text);
      if (values.length !== floats) throw malformed(name, 0, `its text has ${values.length} numbers`);
      return wireOf(new WireBuilder(), values);
    },
  );
}

export const pointFamily = fixedFamily(
  "point",
  2,
  (out, to, _bytes, view, at) => writePoints(out, to, view, at, 1),
  /^\([^()]+\)$/,
);

export const lsegFamily = fixedFamily(
  "lseg",
  4,
  (out, to, _bytes, view, at) => writeBetween(out, to, OPEN_BRACKET, CLOSE_BRACKET, view, at, 2),
  /^\[\([^()]+\),\([^()]+\)\]$/,
);

export const boxFamily = fixedFamily(
  "box",
  4,
  (out, to, _bytes, view, at) => writePoints(out, to, view, at, 2),
  /^\([^()]+\),\([^()]+\)$/,
);

export const lineFamily = fixedFamily(
  "line",
  3,
  (out, to, _bytes, view, at) => {
    out[to] = OPEN_BRACE;
    let end = writeFloat8(out, to + 1, view, at);
    out[end] = COMMA;
    end = writeFloat8(out, end + 1, view, at + 8);
    out[end] = COMMA;
    end = writeFloat8(out, end + 1, view, at + 16);
    out[end] = CLOSE_BRACE;
    return end + 1;
  },
  /^\{[^{}]+\}$/,
);

export const circleFamily = fixedFamily(
  "circle",
  3,
  (out, to, _bytes, view, at) => {
    out[to] = LESS;
    let end = writePoints(out, to + 1, view, at, 1);
    out[end] = COMMA;
    end = writeFloat8(out, end + 1, view, at + POINT_BYTES);
    out[end] = GREATER;
    return end + 1;
  },
  /^<\([^()]+\),[^()]+>$/,
);

/** Throws unless the value is a header of `headerBytes`, whose last four are the count, and that many points. */
function measurePoints(name: string, headerBytes: number, view: DataView, at: number, length: number): number {
  const count = length >= headerBytes ? view.getInt32(at + headerBytes - 4) : -1;
  if (count < 1 || length !== headerBytes + count * POINT_BYTES) {
    throw malformed(name, at - 4, `${count} points in ${length} bytes`);
  }
  return 2 + count * 2 * VALUE_BYTES;
}

export const pathFamily: TextFamily = makeTextFamily(
  "path",
  {
    plain: true,
    measure: (bytes, view, at, length) => {
      const size = measurePoints("path", 5, view, at, length);
      if (bytes[at]! > 1) throw malformed("path", at - 4, "it is neither open nor closed");
      return size;
    },
    write: (out, to, bytes, view, at) => {
      const closed = bytes[at] === 1;
      const count = view.getInt32(at + 1);
      return writeBetween(out, to, closed ? OPEN : OPEN_BRACKET, closed ? CLOSE : CLOSE_BRACKET, view, at + 5, count);
    },
  },
  (text) => {
    const values = pointsIn("path", text, /^(?:\[(\([^()[\]]+\),?)+\]|\((\([^()[\]]+\),?)+\))$/);
    return wireOf(new WireBuilder().uint8(text.startsWith("(") ? 1 : 0).int32(values.length / 2), values);
  },
);

export const polygonFamily: TextFamily = makeTextFamily(
  "polygon",
  {
    plain: true,
    measure: (_bytes, view, at, length) => measurePoints("polygon", 4, view, at, length),
    write: (out, to, _bytes, view, at) => writeBetween(out, to, OPEN, CLOSE, view, at + 4, view.getInt32(at)),
  },
  (text) => {
    const values = pointsIn("polygon", text, /^\((\([^()]+\),?)+\)$/);
    return wireOf(new WireBuilder().int32(values.length / 2), values);
  },
);

/** uint32 dimensions (the highest bit: one corner is all, the cube is a point), then the corners. */
export const cubeFamily: TextFamily = makeTextFamily(
  "cube",
  {
    plain: true,
    measure: (_bytes, view, at, length) => {
      const header = length >= 4 ? view.getUint32(at) : -1;
      const dimensions = header % CUBE_POINT;
      const values = header >= CUBE_POINT ? dimensions : 2 * dimensions;
      if (header < 0 || dimensions > CUBE_MAX_DIMENSIONS || length !== 4 + 8 * values) {
        throw malformed("cube", at - 4, `${dimensions} dimensions in ${length} bytes`);
      }
      return 5 + values * VALUE_BYTES;
    },
    write: (out, to, _bytes, view, at) => {
      const header = view.getUint32(at);
      const dimensions = header % CUBE_POINT;
      const end = writeCorner(out, to, view, at + 4, dimensions);
      // A cube whose corners are equal is printed as a point too.
      let point = true;
      for (let k = 0; k < dimensions && point && header < CUBE_POINT; k++) {
        point = view.getFloat64(at + 4 + 8 * k) === view.getFloat64(at + 4 + 8 * (dimensions + k));
      }
      if (point) return end;
      out[end] = COMMA;
      return writeCorner(out, end + 1, view, at + 4 + 8 * dimensions, dimensions);
    },
  },
  (text) => {
    const match = /^\(([^()]*)\)(?:,\(([^()]*)\))?$/.exec(text);
    if (!match) throw malformed("cube", 0, "its text is not a cube");
    const lower = match[1] === "" ? [] : floatsIn(match[1]!);
    const upper = match[2] === undefined ? null : floatsIn(match[2]);
    if (lower.length > CUBE_MAX_DIMENSIONS || (upper && upper.length !== lower.length)) {
      throw malformed("cube", 0, "its text has corners of different dimensions");
    }
    const wire = new WireBuilder().int32((lower.length | (upper ? 0 : CUBE_POINT)) >> 0);
    return wireOf(wire, [...lower, ...(upper ?? [])]);
  },
);

function writeCorner(out: Uint8Array, to: number, view: DataView, at: number, dimensions: number): number {
  let end = to;
  out[end++] = OPEN;
  for (let k = 0; k < dimensions; k++) {
    if (k > 0) {
      out[end++] = COMMA;
      out[end++] = SPACE;
    }
    end = writeFloat8(out, end, view, at + 8 * k);
  }
  out[end] = CLOSE;
  return end + 1;
}

function floatsIn(text: string): number[] {
  return (text.match(/[^()[\]{}<>, ]+/g) ?? []).map(parseFloat8);
}

function pointsIn(name: string, text: string, pattern: RegExp): number[] {
  const values = pattern.test(text) ? floatsIn(text) : [];
  if (values.length === 0 || values.length % 2 !== 0) throw malformed(name, 0, "its text is not of points");
  return values;
}

function wireOf(wire: WireBuilder, values: readonly number[]): Uint8Array {
  for (const value of values) wire.float64(value);
  return wire.finish();
}

/** By OID (pg_type.dat). */
export const geometryFamilies: readonly (readonly [number, TextFamily])[] = [
  [600, pointFamily],
  [601, lsegFamily],
  [602, pathFamily],
  [603, boxFamily],
  [604, polygonFamily],
  [628, lineFamily],
  [718, circleFamily],
];
