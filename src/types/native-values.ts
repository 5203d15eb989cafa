// Values that the native profile writes with Parquet types that not every reader opens: TIME, UUID, JSON.
import { type Codec, type Encode, type Family, malformed, wrongLength } from "./family.ts";

const LAST_MICROSECOND = 86_399_999_999;
const US_OF_DAY = 86_400_000_000;
const TWO_32 = 0x100000000;

/** TIME(MICROS). Postgres has a 24:00:00, Parquet has not: it is clamped to the last microsecond. */
export function nativeTime(codec: Codec): Family {
  const encode: Encode = (leaf, { bytes, view, positions, count }, inexact) => {
    leaf.reserve(count * 8);
    leaf.reserveEntries(count);
    const { view: out, definitions, present } = leaf;
    let { end, entryCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      if (view.getInt32(at) !== 8) throw wrongLength("time", at, view.getInt32(at));
      const high = view.getInt32(at + 4);
      let micros = high * TWO_32 + view.getUint32(at + 8);
      if (high < 0 || micros > US_OF_DAY) throw malformed("time", at, "it is outside of a day");
      if (micros === US_OF_DAY) {
        inexact.add(i, codec.format(bytes, view, at + 4, 8));
        micros = LAST_MICROSECOND;
      }
      out.setUint32(end, micros % TWO_32, true);
      out.setUint32(end + 4, micros / TWO_32, true);
      end += 8;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / 8;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
  return { ...codec, type: { physical: "INT64", logical: { kind: "time" } }, encode };
}

export function nativeUuid(codec: Codec): Family {
  const encode: Encode = (leaf, { view, positions, count }) => {
    leaf.reserve(count * 16);
    leaf.reserveEntries(count);
    const { view: out, definitions, present } = leaf;
    let { end, entryCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      if (view.getInt32(at) !== 16) throw wrongLength("uuid", at, view.getInt32(at));
      for (let k = 0; k < 16; k += 4) out.setInt32(end + k, view.getInt32(at + 4 + k));
      end += 16;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / 16;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
  return { ...codec, type: { physical: "FIXED_LEN_BYTE_ARRAY", lengthBytes: 16, logical: { kind: "uuid" } }, encode };
}

/** The same bytes, said to be JSON. */
export function nativeJson(family: Family): Family {
  return { ...family, type: { physical: "BYTE_ARRAY", logical: { kind: "json" } } };
}
