// interval: in the file an ISO 8601 STRING as Postgres prints it with IntervalStyle iso_8601; its text output, which exact
// texts and containers have, is of style postgres. Both tell months, days and microseconds apart, without any loss.
// Wire format: interval_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/timestamp.c: int64
// microseconds, int32 days, int32 months; ±infinity (PostgreSQL 17+) has all three at their limits.
import { writeMillionths, writeSmall, writeUnsigned } from "./digits.ts";
import { type Family, malformed } from "./family.ts";
import { encodeText, stringType, type TextForm, WireBuilder, writeAscii } from "./text-family.ts";

/** The longest ISO text: `P-178956970Y-8M-2147483648DT-2562047788H-59M-59.999999S`. */
const ISO_BYTES = 64;
const TWO_32 = 0x100000000;
const INT32_MIN = -0x80000000;
const INT32_MAX = 0x7fffffff;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const US_PER_HOUR = 3_600_000_000n;
const ASCII = { P: 0x50, T: 0x54, Y: 0x59, M: 0x4d, D: 0x44, H: 0x48, S: 0x53, minus: 0x2d, dot: 0x2e };

/** ISO 8601, as EncodeInterval of https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/datetime.c */
const isoForm: TextForm = {
  measure: (_bytes, _view, at, length) => {
    if (length !== 16) throw malformed("interval", at - 4, `${length} bytes`);
    return ISO_BYTES;
  },
  write: (out, to, _bytes, view, at) => {
    const days = view.getInt32(at + 8);
    const months = view.getInt32(at + 12);
    const infinity = months === INT32_MAX || months === INT32_MIN ? infiniteText(view, at) : null;
    if (infinity !== null) return writeAscii(out, to, infinity);
    const { negative, hours, microseconds } = splitTime(view, at);
    if (days === 0 && months === 0 && hours === 0 && microseconds === 0) return writeAscii(out, to, "PT0S");
    const years = (months / 12) | 0;
    out[to] = ASCII.P;
    let end = writePart(out, to + 1, years, ASCII.Y);
    end = writePart(out, end, months - years * 12, ASCII.M);
    end = writePart(out, end, days, ASCII.D);
    if (hours === 0 && microseconds === 0) return end;
    out[end++] = ASCII.T;
    const seconds = Math.floor(microseconds / 1_000_000) | 0;
    const minutes = (seconds / 60) | 0;
    end = writePart(out, end, negative ? -hours : hours, ASCII.H);
    end = writePart(out, end, negative ? -minutes : minutes, ASCII.M);
    return writeSeconds(out, end, negative, seconds - minutes * 60, (microseconds - seconds * 1_000_000) | 0);
  },
};

export const intervalFamily: Family = {
  name: "interval",
  type: stringType,
  encode: encodeText(isoForm),
  parse: parseInterval,
  format: formatInterval,
};

/** By OID (pg_type.dat). */
export const intervalFamilies: readonly (readonly [number, Family])[] = [[1186, intervalFamily]];

/** The time's size as whole hours and the microseconds behind them; a bigint only where a double is not exact. */
function splitTime(view: DataView, at: number): { negative: boolean; hours: number; microseconds: number } {
  const high = view.getInt32(at);
  const value = high * TWO_32 + view.getUint32(at + 4);
  if (value <= Number.MAX_SAFE_INTEGER && value >= -Number.MAX_SAFE_INTEGER) {
    const size = Math.abs(value);
    const hours = Math.floor(size / 3_600_000_000);
    return { negative: value < 0, hours, microseconds: size - hours * 3_600_000_000 };
  }
  const exact = view.getBigInt64(at);
  const size = exact < 0n ? -exact : exact;
  return { negative: exact < 0n, hours: Number(size / US_PER_HOUR), microseconds: Number(size % US_PER_HOUR) };
}

/** A number and its letter; nothing for zero. */
function writePart(out: Uint8Array, to: number, value: number, letter: number): number {
  if (value === 0) return to;
  let end = to;
  let size = value;
  if (value < 0) {
    out[end++] = ASCII.minus;
    size = -value;
  }
  end = size < 1e9 ? writeSmall(out, end, size | 0) : writeUnsigned(out, end, size);
  out[end] = letter;
  return end + 1;
}

function writeSeconds(out: Uint8Array, to: number, negative: boolean, seconds: number, fraction: number): number {
  if (seconds === 0 && fraction === 0) return to;
  if (negative) out[to] = ASCII.minus;
  let end = writeSmall(out, negative ? to + 1 : to, seconds);
  if (fraction !== 0) {
    out[end] = ASCII.dot;
    end = writeMillionths(out, end + 1, fraction);
  }
  out[end] = ASCII.S;
  return end + 1;
}

function infiniteText(view: DataView, at: number): string | null {
  const months = view.getInt32(at + 12);
  const limit = months === INT32_MAX ? INT64_MAX : months === INT32_MIN ? INT64_MIN : null;
  if (limit === null || view.getInt32(at + 8) !== months || view.getBigInt64(at) !== limit) return null;
  return months > 0 ? "infinity" : "-infinity";
}

/** Style postgres: `1 year 2 mons -3 days +04:05:06.789`. */
function formatInterval(_bytes: Uint8Array, view: DataView, at: number): string {
  const infinity = infiniteText(view, at);
  if (infinity !== null) return infinity;
  const days = view.getInt32(at + 8);
  const months = view.getInt32(at + 12);
  const years = Math.trunc(months / 12);
  const parts: string[] = [];
  let before = false;
  for (const [value, unit] of [
    [years, "year"],
    [months - years * 12, "mon"],
    [days, "day"],
  ] as const) {
    if (value === 0) continue;
    parts.push(`${before && value > 0 ? "+" : ""}${value} ${unit}${value === 1 ? "" : "s"}`);
    before = value < 0;
  }
  const { negative, hours, microseconds } = splitTime(view, at);
  if (parts.length === 0 || hours !== 0 || microseconds !== 0) {
    const seconds = Math.floor(microseconds / 1_000_000);
    const fraction = String(microseconds - seconds * 1_000_000)
      .padStart(6, "0")
      .replace(/0+$/, "");
    const clock = [hours, Math.floor(seconds / 60), seconds % 60]
      .map((part) => String(part).padStart(2, "0"))
      .join(":");
    parts.push(`${negative ? "-" : before ? "+" : ""}${clock}${fraction ? `.${fraction}` : ""}`);
  }
  return parts.join(" ");
}

function parseInterval(text: string): Uint8Array {
  if (text === "infinity") return wire(INT64_MAX, INT32_MAX, INT32_MAX);
  if (text === "-infinity") return wire(INT64_MIN, INT32_MIN, INT32_MIN);
  const pattern =
    /^(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?(?:([+-]?)(\d{2,}):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?$/;
  const match = pattern.exec(text);
  if (!match || text === "" || text.endsWith(" ")) throw malformed("interval", 0, "its text is not of style postgres");
  const [, years = "0", months = "0", days = "0", sign, hour = "0", minute = "0", second = "0", fraction = ""] = match;
  const clock = BigInt(hour) * 3600n + BigInt(Number(minute) * 60 + Number(second));
  const size = clock * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
  return wire(sign === "-" ? -size : size, Number(days), Number(years) * 12 + Number(months));
}

function wire(microseconds: bigint, days: number, months: number): Uint8Array {
  const inRange = BigInt.asIntN(64, microseconds) === microseconds && (days | 0) === days && (months | 0) === months;
  if (!inRange) throw malformed("interval", 0, "its text is out of range");
  return new WireBuilder().int64(microseconds).int32(days).int32(months).finish();
}
