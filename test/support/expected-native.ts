// What a reader must find in a file of the native profile for a value that Postgres prints as a text: said once more, on
// purpose without any code of src/types. Only what is not the same in the portable profile.
import type { ParquetColumn, StructColumn, ValueColumn } from "../../src/parquet/schema.ts";
import { type Expected, expectedValue } from "./expected-values.ts";
import { sortPairs, type Value } from "./parquet-readers.ts";

/** Attributes of composites, by name, of which the Parquet type does not tell how they are printed. */
type Kinds = ReadonlyMap<string, "char" | "money">;

export function expectedNative(column: ParquetColumn, text: string | null, kinds: Kinds = new Map()): Expected {
  if (text === null) return { value: null, exact: true };
  switch (column.kind) {
    case "value":
      return expectedLeaf(column, text, kinds.get(column.name));
    case "map":
      return { value: hstorePairs(text), exact: true };
    case "struct":
      return expectedStruct(column, text, kinds);
    case "list":
      return expectedItems(column.element, text, kinds);
  }
}

function expectedLeaf(column: ValueColumn, text: string, special: string | undefined): Expected {
  const { kind } = column.type.logical;
  if (kind === "uuid") return { value: `x${text.replaceAll("-", "")}`, exact: true };
  if (special === "money") return expectedValue(column, "plain", text.replace(/[$,]/g, ""));
  if (kind !== "time") return expectedValue(column, special === "char" ? "trimmed" : "plain", text);
  const micros = timeMicros(text);
  return micros < 86_400_000_000n ? { value: String(micros), exact: true } : { value: "86399999999", exact: false };
}

function timeMicros(text: string): bigint {
  const [, sign, hours, minutes, seconds, fraction = ""] = /^(-?)(\d+):(\d\d):(\d\d)(?:\.(\d+))?$/.exec(text)!;
  const whole = BigInt(hours!) * 3600n + BigInt(minutes!) * 60n + BigInt(seconds!);
  const micros = whole * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
  return sign ? -micros : micros;
}

function expectedStruct(column: StructColumn, text: string, kinds: Kinds): Expected {
  const names = column.fields.map(({ name }) => name).join();
  if (names === "lower,upper,lower_inc,upper_inc,empty") return expectedRange(column, text);
  if (names === "months,days,micros") return expectedInterval(text);
  if (names === "closed,points") {
    return { value: [text.startsWith("(") ? "t" : "f", pointsOf(text)], exact: true };
  }
  if (numberStructs.has(names) && column.fields.every(isDouble)) return { value: numbersOf(text), exact: true };
  const texts = splitText(text.slice(1, -1), ",");
  const fields = column.fields.map((field, k) => expectedNative(field, texts[k]!, kinds));
  return together(fields);
}

const numberStructs: ReadonlySet<string> = new Set([
  "x,y",
  "a,b,c",
  "x1,y1,x2,y2",
  "high_x,high_y,low_x,low_y",
  "x,y,radius",
]);

function isDouble(field: ParquetColumn): boolean {
  return field.kind === "value" && field.type.physical === "DOUBLE";
}

function together(parts: readonly Expected[]): Expected {
  return { value: parts.map(({ value }) => value), exact: parts.every(({ exact }) => exact) };
}

function expectedRange({ fields }: StructColumn, text: string): Expected {
  if (text === "empty") return { value: [null, null, "f", "f", "t"], exact: true };
  const bounds = splitText(text.slice(1, -1), ",").map((bound, k) => expectedNative(fields[k]!, bound));
  const flags = [text.startsWith("["), text.endsWith("]"), false].map((flag) => (flag ? "t" : "f"));
  const { value, exact } = together(bounds);
  return { value: [...(value as Value[]), ...flags], exact };
}

function expectedInterval(text: string): Expected {
  const most = ["2147483647", "2147483647", "9223372036854775807"];
  if (text === "infinity") return { value: most, exact: false };
  if (text === "-infinity") return { value: ["-2147483648", "-2147483648", "-9223372036854775808"], exact: false };
  const part = (unit: string): number => Number(new RegExp(`(-?\\+?\\d+) ${unit}`).exec(text)?.[1] ?? 0);
  const time = /[-+]?\d+:\d\d:\d\d(?:\.\d+)?/.exec(text)?.[0].replace("+", "") ?? "00:00:00";
  return {
    value: [String(part("year") * 12 + part("mon")), String(part("day")), String(timeMicros(time))],
    exact: true,
  };
}

function expectedItems(element: ParquetColumn, text: string, kinds: Kinds): Expected {
  if (text.startsWith("((")) return { value: pointsOf(text), exact: true };
  const body = text.slice(text.indexOf("{") + 1, -1);
  const ranges = element.kind === "struct" && element.fields[0]!.name === "lower";
  // The elements of an array of ranges are quoted; a multirange begins with a bound.
  if (ranges && /^[[(]/.test(body)) {
    const items = body.match(/[[(](?:"(?:[^"]|"")*"|[^"\])])*[\])]/gu) ?? [];
    return together(items.map((item) => expectedNative(element, item, kinds)));
  }
  if (body.startsWith("{")) return { value: null, exact: false };
  const items = body === "" ? [] : splitText(body, isBox(element) ? ";" : ",", true);
  const { value, exact } = together(items.map((item) => expectedNative(element, item, kinds)));
  return { value, exact: exact && (!text.startsWith("[") || text.startsWith("[1:")) };
}

/** The parts of a text: quoted ones hold anything, nothing (or, in arrays, the word NULL) is NULL. */
function splitText(text: string, separator: string, array = false): (string | null)[] {
  const parts: (string | null)[] = [];
  let part = "";
  let seen = false;
  let inside = false;
  const end = (): void => {
    parts.push(seen || part !== "" ? (array && !seen && part === "NULL" ? null : part) : null);
    part = "";
    seen = false;
  };
  for (let k = 0; k < text.length; k++) {
    const sign = text[k]!;
    if (sign === "\\") part += text[++k]!;
    else if (sign === '"' && inside && text[k + 1] === '"') part += text[++k]!;
    else if (sign === '"') {
      inside = !inside;
      seen = true;
    } else if (sign === separator && !inside) end();
    else part += sign;
  }
  end();
  return parts;
}

/** box is the only type whose arrays have another delimiter. */
function isBox(column: ParquetColumn): boolean {
  return column.kind === "struct" && column.fields[0]!.name === "high_x";
}

function hstorePairs(text: string): Value {
  const pairs = text.matchAll(/"((?:[^"\\]|\\.)*)"=>(?:NULL|"((?:[^"\\]|\\.)*)")/gs);
  const plain = (quoted: string): string => quoted.replace(/\\(.)/gs, "$1");
  return sortPairs([...pairs].map(([, key, value]) => [plain(key!), value === undefined ? null : plain(value)]));
}

function numbersOf(text: string): Value[] {
  return text
    .match(/NaN|-?Infinity|-?\d[\d.e+-]*/g)!
    .map((number) => (Object.is(Number(number), -0) ? "-0" : String(Number(number))));
}

function pointsOf(text: string): Value[] {
  const numbers = numbersOf(text);
  return Array.from({ length: numbers.length / 2 }, (_, k) => numbers.slice(2 * k, 2 * k + 2));
}
