// How a column's values are written where there is a choice: by the group's profile, or as the config says for one
// column. The choice is part of the column's definition, so files of one schema version never mix two.
import { type Codec, type Encode, type Family, type InexactValues, malformed } from "./family.ts";
import { BARE_PRECISION, numericFamily } from "./numeric.ts";
import { bytesOfText } from "./output-text.ts";

export type Profile = "portable" | "native";

export type WrittenAs =
  | { readonly kind: "profile"; readonly profile: Profile }
  | { readonly kind: "string" }
  | { readonly kind: "double" }
  | { readonly kind: "decimal"; readonly precision: number; readonly scale: number };

/** Of SourceColumn.writtenAs; undefined is the portable profile. Null: it is not one of them. */
export function parseWrittenAs(text: string | undefined): WrittenAs | null {
  if (text === undefined || text === "portable" || text === "native") {
    return { kind: "profile", profile: text ?? "portable" };
  }
  if (text === "string" || text === "double") return { kind: text };
  const match = /^decimal\((\d{1,2}),(\d{1,2})\)$/.exec(text.replaceAll(" ", ""));
  if (!match) return null;
  const [precision, scale] = [Number(match[1]), Number(match[2])];
  if (precision < 1 || precision > BARE_PRECISION || scale > precision) return null;
  return { kind: "decimal", precision, scale };
}

/** The family of a type that is in the file as its text. */
export function asString(codec: Codec): Family {
  const encode: Encode = (leaf, { bytes, view, positions, count }) => {
    leaf.reserveEntries(count);
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      leaf.definitions[leaf.entryCount++] = leaf.present + Math.min(at, 0);
      if (at < 0) continue;
      const text = bytesOfText(formatChecked(codec, bytes, view, at));
      leaf.reserve(4 + text.length);
      leaf.view.setUint32(leaf.end, text.length, true);
      leaf.bytes.set(text, leaf.end + 4);
      leaf.end += 4 + text.length;
      leaf.valueCount++;
    }
  };
  return { ...codec, type: { physical: "BYTE_ARRAY", logical: { kind: "string" } }, encode };
}

// Formats trust their bytes: what is no value makes them read outside of the received data.
function formatChecked(codec: Codec, bytes: Uint8Array, view: DataView, at: number): string {
  try {
    return codec.format(bytes, view, at + 4, view.getInt32(at));
  } catch (error) {
    if (error instanceof RangeError) throw malformed(codec.name, at, "it ends outside of the received data");
    throw error;
  }
}

/** The numeric family that an override asks for. */
export function numericAs(written: WrittenAs & { kind: "double" | "decimal" }): Family {
  return written.kind === "decimal" ? numericFamily(written.precision, written.scale) : numericAsDouble;
}

const numericText = numericFamily(BARE_PRECISION, 0);

/** DOUBLE, the nearest to the number; its exact text is kept when printing the double would not give the number again. */
const numericAsDouble: Family = {
  ...numericText,
  type: { physical: "DOUBLE", logical: { kind: "none" } },
  encode: (leaf, { bytes, view, positions, count }, inexact) => {
    leaf.reserve(count * 8);
    leaf.reserveEntries(count);
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      leaf.definitions[leaf.entryCount++] = leaf.present + Math.min(at, 0);
      if (at < 0) continue;
      leaf.view.setFloat64(leaf.end, nearestDouble(bytes, view, at, i, inexact), true);
      leaf.end += 8;
      leaf.valueCount++;
    }
  },
};

function nearestDouble(bytes: Uint8Array, view: DataView, at: number, index: number, inexact: InexactValues): number {
  const length = view.getInt32(at);
  if (length < 8 || length !== 8 + 2 * view.getUint16(at + 4)) throw malformed("numeric", at, `${length} bytes`);
  const text = numericText.format(bytes, view, at + 4, length);
  const value = Number(text);
  if (!sameNumber(text, value)) inexact.add(index, text);
  return value;
}

/** Whether a double's shortest text names the same number. */
function sameNumber(text: string, value: number): boolean {
  if (!Number.isFinite(value)) return text === String(value);
  return decimalForm(text) === decimalForm(String(value));
}

/** Sign, digits without zeros around them, and the exponent of the last one. */
function decimalForm(text: string): string {
  const [, sign, whole, fraction = "", exponent = "0"] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(text)!;
  const digits = (whole! + fraction).replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  if (significant === "") return "0";
  return `${sign}${significant}e${Number(exponent) - fraction.length + digits.length - significant.length}`;
}
