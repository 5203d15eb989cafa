// money: DECIMAL(19, scale). On the wire and in the file it is an integer of minor units, whose size lc_monetary decides.
// Wire format: cash_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/cash.c: int64.
import { type Encode, type Family, malformed } from "./family.ts";

export const MONEY_OID = 790;
const PRECISION = 19;
const WIDTH = 9;
/** Of nearly every lc_monetary. */
const USUAL_SCALE = 2;

const encodeMoney: Encode = (leaf, cells) => {
  const { view, positions, count } = cells;
  leaf.reserve(count * WIDTH);
  leaf.reserveEntries(count);
  const { bytes: out, view: outView, definitions, present } = leaf;
  let { end, entryCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 8) throw malformed("money", at, `${view.getInt32(at)} bytes`);
    const high = view.getInt32(at + 4);
    out[end] = high >> 31;
    outView.setInt32(end + 1, high);
    outView.setInt32(end + 5, view.getInt32(at + 8));
    end += WIDTH;
    definitions[entryCount++] = present;
  }
  leaf.valueCount += (end - leaf.end) / WIDTH;
  leaf.end = end;
  leaf.entryCount = entryCount;
};

/** `scale`: digits behind the point by the database's lc_monetary (PgType.moneyScale). */
export function moneyFamily(scale: number = USUAL_SCALE): Family {
  return {
    name: "money",
    type: {
      physical: "FIXED_LEN_BYTE_ARRAY",
      lengthBytes: WIDTH,
      logical: { kind: "decimal", precision: PRECISION, scale },
    },
    encode: encodeMoney,
    parse: parseMoney,
    format: (_bytes, view, at) => formatMoney(view.getBigInt64(at), scale),
  };
}

/** Any locale's form: cash_out prints all digits of the scale, so that its digits alone are the minor units. */
function parseMoney(text: string): Uint8Array {
  const digits = text.replace(/\D/g, "");
  // A minus stands somewhere, or parentheses around it all. Currencies have no digits, but a dot: `Rs.1,00`.
  const negative = /[-−(]/.test(text);
  const value = digits === "" ? null : negative ? -BigInt(digits) : BigInt(digits);
  if (value === null || BigInt.asIntN(64, value) !== value) throw malformed("money", 0, "its text is not an amount");
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, value);
  return bytes;
}

/** As lc_monetary C and en_US print it; only exact texts of arrays and containers need it. */
function formatMoney(value: bigint, scale: number): string {
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, "0");
  const whole = digits.slice(0, digits.length - scale).replace(/\B(?=(\d{3})+$)/g, ",");
  return `${value < 0n ? "-" : ""}$${whole}${scale > 0 ? `.${digits.slice(-scale)}` : ""}`;
}
