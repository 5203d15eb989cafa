// Composites: where their fields are, and their text output. In portable files they are JSON (composite-json.ts).
// Wire format: record_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/rowtypes.c: int32
// field count, {uint32 type, int32 length, bytes} per field; dropped attributes are left out.
import { PgFloError } from "../base/errors.ts";
import { type Codec, malformed } from "./family.ts";
import { WireBuilder } from "./text-family.ts";

const HEADER_BYTES = 4;
const FIELD_BYTES = 8;

export interface CompositeField {
  readonly name: string;
  /** As it stands on the wire. */
  readonly typeOid: number;
  readonly codec: Codec;
}

/**
 * Writes to `positions` where the fields' length fields are (they say −1 for NULL), for the value in bytes
 * [at, at + length). Throws PROTOCOL_VIOLATION for bytes that are no composite, TABLE_CHANGED for one of other fields.
 */
export function locateFields(
  view: DataView,
  at: number,
  length: number,
  fields: readonly { readonly typeOid: number }[],
  positions: Int32Array,
): void {
  const end = at + length;
  if (length < HEADER_BYTES) throw malformed("composite", at - 4, `${length} bytes`);
  const count = view.getInt32(at);
  if (count < 0 || count * FIELD_BYTES > length)
    throw malformed("composite", at - 4, `${count} fields in ${length} bytes`);
  if (count !== fields.length) throw otherAttributes(at - 4);
  let next = at + HEADER_BYTES;
  for (let k = 0; k < count; k++) {
    const size = next + FIELD_BYTES <= end ? view.getInt32(next + 4) : -2;
    if (size < -1 || next + FIELD_BYTES + size > end)
      throw malformed("composite", at - 4, `field ${k} ends outside of it`);
    if (view.getUint32(next) !== fields[k]!.typeOid) throw otherAttributes(at - 4);
    positions[k] = next + 4;
    next += FIELD_BYTES + (size < 0 ? 0 : size);
  }
  if (next !== end) throw malformed("composite", at - 4, "there are bytes behind its last field");
}

/** ALTER TYPE … ADD or DROP ATTRIBUTE comes without a message in the stream; the value is the first to tell. */
function otherAttributes(offset: number): PgFloError {
  return new PgFloError("TABLE_CHANGED", "a composite value, has other attributes than its type had at the start", {
    fix: "nothing, the type is read again when the table begins anew",
    facts: { offset },
  });
}

/** The text output, record_out, and back. */
export function compositeCodec(name: string, fields: readonly CompositeField[]): Codec {
  const positions = new Int32Array(fields.length);
  return {
    name,
    parse: (text) => parseComposite(fields, text),
    format: (bytes, view, at, length) => {
      locateFields(view, at, length, fields, positions);
      // A field may be of a type that holds this one: its positions are its own.
      const own = positions.slice();
      return `(${fields.map(({ codec }, k) => formatField(codec, bytes, view, own[k]!)).join(",")})`;
    },
  };
}

function formatField(codec: Codec, bytes: Uint8Array, view: DataView, position: number): string {
  const length = view.getInt32(position);
  if (length < 0) return "";
  const text = codec.format(bytes, view, position + 4, length);
  return text !== "" && !/["\\(), \t\n\r\v\f]/.test(text) ? text : `"${text.replace(/["\\]/g, "$&$&")}"`;
}

function parseComposite(fields: readonly CompositeField[], text: string): Uint8Array {
  const values = splitComposite(text, fields.length);
  if (values.length !== fields.length) throw otherAttributes(0);
  const wire = new WireBuilder().int32(fields.length);
  for (const [k, { typeOid, codec }] of fields.entries()) {
    const value = values[k]!;
    wire.int32(typeOid).counted(value === null ? null : parseField(codec, value));
  }
  return wire.finish();
}

/** A text that its field's type cannot have is of an attribute that took its place: text does not tell its types. */
function parseField(codec: Codec, text: string): Uint8Array {
  try {
    return codec.parse(text);
  } catch (error) {
    if (error instanceof PgFloError && error.code === "PROTOCOL_VIOLATION") throw otherAttributes(0);
    throw error;
  }
}

/** The fields' texts; null for NULL. `()` is no field, or one that is NULL. */
function splitComposite(text: string, count: number): (string | null)[] {
  if (!text.startsWith("(") || !text.endsWith(")") || text.length < 2) throw noComposite();
  if (count === 0 && text === "()") return [];
  const values: (string | null)[] = [];
  const pattern = /(?:"((?:[^"\\]|""|\\\\)*)"|([^"\\(), \t\n\r\v\f]*))([,)])/sy;
  pattern.lastIndex = 1;
  for (;;) {
    const match = pattern.exec(text);
    if (!match) throw noComposite();
    const [, quoted, plain, after] = match;
    values.push(quoted === undefined ? plain || null : quoted.replace(/""|\\\\/g, (pair) => pair[0]!));
    if (after === ",") continue;
    if (pattern.lastIndex !== text.length) throw noComposite();
    return values;
  }
}

function noComposite(): Error {
  return malformed("composite", 0, "its text is not a composite");
}
