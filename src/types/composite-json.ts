// Composites in portable files: a JSON object, with the attributes' names and what to_json makes of their values.
import { type CompositeField, compositeCodec, locateFields } from "./composite-wire.ts";
import type { Family } from "./family.ts";
import { encodeText, stringType, type TextForm, writeAscii, writeBytes } from "./text-family.ts";

export interface JsonField extends CompositeField {
  readonly json: TextForm;
}

/** The family of a composite type. Its text output is record_out's. */
export function compositeFamily(name: string, fields: readonly JsonField[]): Family {
  return { ...compositeCodec(name, fields), type: stringType, encode: encodeText(compositeJsonForm(fields)) };
}

/** row_to_json: `{"a":1,"b":null}`. */
export function compositeJsonForm(fields: readonly JsonField[]): TextForm {
  const keys = fields.map(({ name }, k) => new TextEncoder().encode(`${k > 0 ? "," : "{"}${JSON.stringify(name)}:`));
  const keyBytes = keys.reduce((size, key) => size + key.length, 2);
  // A type never holds itself, so that no value is inside of another one of this form.
  const positions = new Int32Array(fields.length);
  let locatedAt = -1;
  return {
    measure: (bytes, view, at, length) => {
      locateFields(view, at, length, fields, positions);
      locatedAt = at;
      let size = keyBytes;
      for (let k = 0; k < positions.length; k++) {
        const fieldAt = positions[k]! + 4;
        const fieldLength = view.getInt32(fieldAt - 4);
        size += fieldLength < 0 ? 4 : fields[k]!.json.measure(bytes, view, fieldAt, fieldLength);
      }
      return size;
    },
    write: (out, to, bytes, view, at, length) => {
      // It was measured, and mostly as the last one.
      if (locatedAt !== at) locateFields(view, at, length, fields, positions);
      locatedAt = -1;
      let end = to;
      for (let k = 0; k < positions.length; k++) {
        end = writeBytes(out, end, keys[k]!, 0, keys[k]!.length);
        const fieldAt = positions[k]! + 4;
        const fieldLength = view.getInt32(fieldAt - 4);
        end =
          fieldLength < 0
            ? writeAscii(out, end, "null")
            : fields[k]!.json.write(out, end, bytes, view, fieldAt, fieldLength);
      }
      return writeAscii(out, end, fields.length === 0 ? "{}" : "}");
    },
  };
}
