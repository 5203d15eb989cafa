// Values as JSON text, by byte: the portable form of composites and hstore. A field is what to_json makes of it, so that
// numbers keep their digits, and what is no number in JSON (NaN) is a string.
// Source: datum_to_json in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/json.c
import { malformed } from "./family.ts";
import { dimensionCount, elementCount, locateElements } from "./list.ts";
import { moveRight, type TextForm, writeAscii, writeBytes } from "./text-family.ts";
import { type AnyCodec, isNearTimestamp, textFormOf, writeTimestamp } from "./text-forms.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const LONG_BYTES = 4096;
/** Longest escape: \u001f. */
const ESCAPE_BYTES = 6;
const escapes = Array.from({ length: 0x60 }, (_, byte) => {
  const text = JSON.stringify(String.fromCharCode(byte)).slice(1, -1);
  return text.length > 1 ? new TextEncoder().encode(text) : null;
});

/** Bytes that the string's escapes can take at most, with its quotes. */
export function measureJsonString(bytes: Uint8Array, from: number, end: number): number {
  if (end - from < LONG_BYTES) return (end - from) * ESCAPE_BYTES + 2;
  let size = end - from + 2;
  for (let k = from; k < end; k++) if (bytes[k]! < 0x60) size += (escapes[bytes[k]!]?.length ?? 1) - 1;
  return size;
}

/** Writes a JSON string of UTF-8 bytes. */
export function writeJsonString(out: Uint8Array, to: number, bytes: Uint8Array, from: number, end: number): number {
  let next = to;
  out[next++] = QUOTE;
  for (let k = from; k < end; k++) {
    const byte = bytes[k]!;
    const escaped = byte < 0x20 || byte === QUOTE || byte === BACKSLASH ? escapes[byte] : null;
    if (escaped) next = writeBytes(out, next, escaped, 0, escaped.length);
    else out[next++] = byte;
  }
  out[next] = QUOTE;
  return next + 1;
}

/** A type's text as a JSON string. */
export function jsonStringForm({ measure, write, plain: always }: TextForm): TextForm {
  if (always) {
    return {
      measure: (bytes, view, at, length) => measure(bytes, view, at, length) + 2,
      write: (out, to, bytes, view, at, length) => {
        out[to] = QUOTE;
        const end = write(out, to + 1, bytes, view, at, length);
        out[end] = QUOTE;
        return end + 1;
      },
    };
  }
  // The text is written behind the place where its string is going to be, then moved there.
  return {
    measure: (bytes, view, at, length) => measure(bytes, view, at, length) * ESCAPE_BYTES + 2,
    write: (out, to, bytes, view, at, length) => {
      const end = write(out, to, bytes, view, at, length);
      let plain = true;
      for (let k = to; k < end && plain; k++) plain = out[k]! >= 0x20 && out[k] !== QUOTE && out[k] !== BACKSLASH;
      if (!plain) return writeJsonString(out, to, out.slice(to, end), 0, end - to);
      moveRight(out, to, end, 1);
      out[to] = QUOTE;
      out[end + 1] = QUOTE;
      return end + 2;
    },
  };
}

/** text and its kin: their bytes are their text. */
export const jsonTextForm: TextForm = {
  measure: (bytes, _view, at, length) => measureJsonString(bytes, at, at + length),
  write: (out, to, bytes, _view, at, length) => writeJsonString(out, to, bytes, at, at + length),
};

/** A number, or a string when it is none to JSON. */
export function jsonNumberForm(codec: AnyCodec): TextForm {
  const form = textFormOf(codec);
  if (codec.name.startsWith("int")) return form;
  const { measure, write } = form;
  return {
    measure: (bytes, view, at, length) => measure(bytes, view, at, length) + 2,
    write: (out, to, bytes, view, at, length) => {
      const end = write(out, to, bytes, view, at, length);
      const first = out[to] === 0x2d ? out[to + 1]! : out[to]!;
      if (first >= 0x30 && first <= 0x39) return end;
      moveRight(out, to, end, 1);
      out[to] = QUOTE;
      out[end + 1] = QUOTE;
      return end + 2;
    },
  };
}

export function jsonBoolForm(codec: AnyCodec): TextForm {
  const { measure } = textFormOf(codec);
  return {
    measure: (bytes, view, at, length) => measure(bytes, view, at, length) + 4,
    write: (out, to, bytes, _view, at) => writeAscii(out, to, bytes[at] === 1 ? "true" : "false"),
  };
}

/** json as it is. */
export const jsonRawForm: TextForm = {
  measure: (_bytes, _view, _at, length) => length,
  write: (out, to, bytes, _view, at, length) => writeBytes(out, to, bytes, at, at + length),
};

/** jsonb: a version byte, then its text. */
export const jsonbRawForm: TextForm = {
  measure: (bytes, _view, at, length) => {
    if (length < 1 || bytes[at] !== 1) throw malformed("jsonb", at - 4, "its version is not 1");
    return length - 1;
  },
  write: (out, to, bytes, _view, at, length) => writeBytes(out, to, bytes, at + 1, at + length),
};

/** Dates and times of ISO 8601, with T between them and an offset of hours and minutes. */
export function jsonTimeForm(codec: AnyCodec): TextForm {
  const { measure, write } = textFormOf(codec);
  const near = codec.name === "date" ? null : codec.name;
  return {
    measure: (bytes, view, at, length) => measure(bytes, view, at, length) + 5,
    write: (out, to, bytes, view, at, length) => {
      if (near !== null && isNearTimestamp(view, at)) return writeJsonTimestamp(out, to, view, at, near);
      let end = write(out, to + 1, bytes, view, at, length);
      out[to] = QUOTE;
      // `… 12:34:56+00 BC`: the first blank in front of a digit, and the offset, which is always +00.
      for (let k = to + 1; k + 1 < end; k++) {
        if (out[k] === 0x20 && out[k + 1]! <= 0x39) out[k] = 0x54;
        else if (out[k] === 0x2b) {
          moveRight(out, k + 3, end, 3);
          writeAscii(out, k + 3, ":00");
          end += 3;
          break;
        }
      }
      out[end] = QUOTE;
      return end + 1;
    },
  };
}

function writeJsonTimestamp(out: Uint8Array, to: number, view: DataView, at: number, name: string): number {
  out[to] = QUOTE;
  let end = writeTimestamp(out, to + 1, view, at, 0x54);
  if (name === "timestamptz") end = writeAscii(out, end, "+00:00");
  out[end] = QUOTE;
  return end + 1;
}

/** An array: JSON arrays, one in the other for each dimension. */
export function jsonArrayForm(element: TextForm): TextForm {
  return {
    measure: (bytes, view, at, length) => {
      const dimensions = dimensionCount(view, at - 4);
      if (dimensions === 0) return 2;
      const count = elementCount(view, at - 4, dimensions);
      const positions = new Int32Array(count);
      locateElements(view, at - 4, dimensions, count, positions, 0);
      // Brackets of the inner arrays too; each has an element at least.
      let size = 2 + length + count * 2 * dimensions;
      for (const position of positions) {
        size += position < 0 ? 5 : 1 + element.measure(bytes, view, position + 4, view.getInt32(position));
      }
      return size;
    },
    write: (out, to, bytes, view, at) => {
      const dimensions = dimensionCount(view, at - 4);
      if (dimensions === 0) return writeAscii(out, to, "[]");
      const count = elementCount(view, at - 4, dimensions);
      const positions = new Int32Array(count);
      locateElements(view, at - 4, dimensions, count, positions, 0);
      let next = 0;
      const writeLevel = (depth: number, start: number): number => {
        if (depth === dimensions) {
          const position = positions[next++]!;
          if (position < 0) return writeAscii(out, start, "null");
          return element.write(out, start, bytes, view, position + 4, view.getInt32(position));
        }
        let end = writeAscii(out, start, "[");
        const size = view.getInt32(at + 12 + 8 * depth);
        for (let k = 0; k < size; k++) {
          if (k > 0) out[end++] = COMMA;
          end = writeLevel(depth + 1, end);
        }
        return writeAscii(out, end, "]");
      };
      return writeLevel(0, to);
    },
  };
}
