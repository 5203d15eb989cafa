// date, time, timestamp, timestamptz. Postgres counts from 2000-01-01, Parquet from 1970-01-01.
// Readers take years 1 to 9999: what lies outside is clamped to that range's edge and its exact text kept.
// Wire formats: https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/{date,timestamp}.c
import { writeTime } from "./digits.ts";
import { type Encode, type Family, malformed, wrongLength } from "./family.ts";

const DAYS_1970_TO_2000 = 10957;
const DATE_MIN = -730119; // 0001-01-01, in days since 2000-01-01
const DATE_MAX = 2921939; // 9999-12-31
const INT32_MIN = -0x80000000;
const INT32_MAX = 0x7fffffff;

export const US_OF_DAY = 86_400_000_000;
const US_PER_DAY = BigInt(US_OF_DAY);
const US_1970_TO_2000 = BigInt(DAYS_1970_TO_2000) * US_PER_DAY;
const TIMESTAMP_MIN = BigInt(DATE_MIN) * US_PER_DAY;
const TIMESTAMP_MAX = BigInt(DATE_MAX + 1) * US_PER_DAY - 1n;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

// Whole high words that are certainly inside the range; the two at the edges are decided by bigints.
const HIGH_MIN = Number(TIMESTAMP_MIN >> 32n) + 1;
const HIGH_MAX = Number(TIMESTAMP_MAX >> 32n) - 1;
const SHIFT_HIGH = Number(US_1970_TO_2000 >> 32n);
const SHIFT_LOW = Number(US_1970_TO_2000 & 0xffffffffn);
export const TWO_32 = 0x100000000;

const encodeDate: Encode = (leaf, cells, inexact) => {
  const { bytes, view, positions, count } = cells;
  leaf.reserve(count * 4);
  leaf.reserveEntries(count);
  const { view: out, definitions, present } = leaf;
  let { end, entryCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 4) throw wrongLength("date", at, view.getInt32(at));
    let days = view.getInt32(at + 4);
    if (days < DATE_MIN || days > DATE_MAX) {
      inexact.add(i, formatDate(bytes, view, at + 4));
      days = days < DATE_MIN ? DATE_MIN : DATE_MAX;
    }
    out.setInt32(end, days + DAYS_1970_TO_2000, true);
    end += 4;
    definitions[entryCount++] = present;
  }
  leaf.valueCount += (end - leaf.end) / 4;
  leaf.end = end;
  leaf.entryCount = entryCount;
};

function encodeTimestamp(family: string, format: Family["format"]): Encode {
  return (leaf, cells, inexact) => {
    const { bytes, view, positions, count } = cells;
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
      if (view.getInt32(at) !== 8) throw wrongLength(family, at, view.getInt32(at));
      const high = view.getInt32(at + 4);
      if (high >= HIGH_MIN && high <= HIGH_MAX) {
        const low = view.getUint32(at + 8) + SHIFT_LOW;
        // A number outside of int32 would make each such store a call, here and for good.
        out.setInt32(end, low | 0, true);
        out.setInt32(end + 4, high + SHIFT_HIGH + (low >= TWO_32 ? 1 : 0), true);
      } else {
        let value = view.getBigInt64(at + 4);
        if (value < TIMESTAMP_MIN || value > TIMESTAMP_MAX) {
          inexact.add(i, format(bytes, view, at + 4, 8));
          value = value < TIMESTAMP_MIN ? TIMESTAMP_MIN : TIMESTAMP_MAX;
        }
        out.setBigInt64(end, value + US_1970_TO_2000, true);
      }
      end += 8;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / 8;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

// HH:MM:SS with a fraction when there is one; 24:00:00 is a legal time.
const encodeTime: Encode = (leaf, cells) => {
  const { view, positions, count } = cells;
  leaf.reserve(count * 19);
  leaf.reserveEntries(count);
  const { bytes: out, view: outView, definitions, present } = leaf;
  let { end, entryCount, valueCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 8) throw wrongLength("time", at, view.getInt32(at));
    const microseconds = timeMicroseconds(view, at + 4);
    if (!(microseconds >= 0 && microseconds <= US_OF_DAY)) throw malformed("time", at, "it is not a time of day");
    const seconds = Math.floor(microseconds / 1_000_000) | 0;
    const textEnd = writeTime(out, end + 4, seconds, (microseconds - seconds * 1_000_000) | 0);
    outView.setUint32(end, textEnd - end - 4, true);
    end = textEnd;
    definitions[entryCount++] = present;
    valueCount++;
  }
  leaf.valueCount = valueCount;
  leaf.end = end;
  leaf.entryCount = entryCount;
};

export const dateFamily: Family = {
  name: "date",
  type: { physical: "INT32", logical: { kind: "date" } },
  encode: encodeDate,
  parse: parseDate,
  format: formatDate,
};

export const timestampFamily: Family = {
  name: "timestamp",
  type: { physical: "INT64", logical: { kind: "timestamp", utc: false } },
  encode: encodeTimestamp("timestamp", formatTimestamp(false)),
  parse: parseTimestamp,
  format: formatTimestamp(false),
};

export const timestamptzFamily: Family = {
  name: "timestamptz",
  type: { physical: "INT64", logical: { kind: "timestamp", utc: true } },
  encode: encodeTimestamp("timestamptz", formatTimestamp(true)),
  parse: parseTimestamp,
  format: formatTimestamp(true),
};

export const timeFamily: Family = {
  name: "time",
  type: { physical: "BYTE_ARRAY", logical: { kind: "string" } },
  encode: encodeTime,
  parse: (text) => {
    const match = /^(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?$/.exec(text);
    if (!match) throw malformed("time", 0, "its text is not a time of day");
    return int64Bytes(clockMicroseconds(match[1]!, match[2]!, match[3]!, match[4]));
  },
  format: (_bytes, view, at) => timeText(timeMicroseconds(view, at)),
};

export function timeMicroseconds(view: DataView, at: number): number {
  return view.getInt32(at) * TWO_32 + view.getUint32(at + 4);
}

function timeText(microseconds: number): string {
  const bytes = new Uint8Array(15);
  const seconds = Math.floor(microseconds / 1_000_000);
  const end = writeTime(bytes, 0, seconds, microseconds - seconds * 1_000_000);
  return Buffer.from(bytes.buffer, 0, end).toString("latin1");
}

/** Days since 2000-01-01 to `YYYY-MM-DD`, and whether the year is BC (its number is then one less than astronomical). */
function dateText(days: number): { text: string; bc: boolean } {
  // Days to civil date: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
  const shifted = days + DAYS_1970_TO_2000 + 719468;
  const era = Math.floor(shifted / 146097);
  const dayOfEra = shifted - era * 146097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36524) - Math.floor(dayOfEra / 146096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  const bc = year <= 0;
  const shownYear = String(bc ? 1 - year : year).padStart(4, "0");
  return { text: `${shownYear}-${String(month).padStart(2, "0")}-${String(day).padStart(2, "0")}`, bc };
}

function formatDate(_bytes: Uint8Array, view: DataView, at: number): string {
  const days = view.getInt32(at);
  if (days === INT32_MIN) return "-infinity";
  if (days === INT32_MAX) return "infinity";
  const { text, bc } = dateText(days);
  return bc ? `${text} BC` : text;
}

function formatTimestamp(utc: boolean): Family["format"] {
  return (_bytes, view, at) => {
    const value = view.getBigInt64(at);
    if (value === INT64_MIN) return "-infinity";
    if (value === INT64_MAX) return "infinity";
    const time = ((value % US_PER_DAY) + US_PER_DAY) % US_PER_DAY;
    const { text, bc } = dateText(Number((value - time) / US_PER_DAY));
    return `${text} ${timeText(Number(time))}${utc ? "+00" : ""}${bc ? " BC" : ""}`;
  };
}

/** Days since 2000-01-01 of a civil date; `year` is astronomical (1 BC is 0). */
function daysFromCivil(year: number, month: number, day: number): number {
  const shiftedYear = month <= 2 ? year - 1 : year;
  const era = Math.floor(shiftedYear / 400);
  const yearOfEra = shiftedYear - era * 400;
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146097 + dayOfEra - 719468 - DAYS_1970_TO_2000;
}

function parseDate(text: string): Uint8Array {
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  const match = /^(\d{4,7})-(\d\d)-(\d\d)( BC)?$/.exec(text);
  if (text === "infinity") view.setInt32(0, INT32_MAX);
  else if (text === "-infinity") view.setInt32(0, INT32_MIN);
  else if (match) view.setInt32(0, civilDays("date", match[1]!, match[2]!, match[3]!, match[4] !== undefined));
  else throw malformed("date", 0, "its text is not a date in ISO style");
  return bytes;
}

function civilDays(family: string, year: string, month: string, day: string, bc: boolean): number {
  const days = daysFromCivil(bc ? 1 - Number(year) : Number(year), Number(month), Number(day));
  // A day that its month does not have would be counted into the next one.
  if (dateText(days).text.slice(-5) !== `${month}-${day}`) throw malformed(family, 0, "its text is not a date");
  return days;
}

/** Both timestamp types; an offset, when there is one, is taken off. */
function parseTimestamp(text: string): Uint8Array {
  if (text === "infinity") return int64Bytes(INT64_MAX);
  if (text === "-infinity") return int64Bytes(INT64_MIN);
  const match =
    /^(\d{4,6})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?( BC)?$/.exec(
      text,
    );
  if (!match) throw malformed("timestamp", 0, "its text is not a timestamp in ISO style");
  const [, year, month, day, hour, minute, second, fraction, sign, offsetHour, offsetMinute, offsetSecond, bc] = match;
  const days = BigInt(civilDays("timestamp", year!, month!, day!, bc !== undefined));
  const local = days * US_PER_DAY + clockMicroseconds(hour!, minute!, second!, fraction);
  const offset = sign ? clockMicroseconds(offsetHour!, offsetMinute ?? "0", offsetSecond ?? "0", undefined) : 0n;
  const value = sign === "-" ? local + offset : local - offset;
  if (value <= INT64_MIN || value >= INT64_MAX) throw malformed("timestamp", 0, "its text is out of range");
  return int64Bytes(value);
}

export function clockMicroseconds(hour: string, minute: string, second: string, fraction: string | undefined): bigint {
  const seconds = Number(hour) * 3600 + Number(minute) * 60 + Number(second);
  return BigInt(seconds) * 1_000_000n + BigInt((fraction ?? "").padEnd(6, "0"));
}

function int64Bytes(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, value);
  return bytes;
}
