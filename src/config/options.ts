// The one table of options: every key, its default and what is allowed. docs/config.md is tested against it.
// Scalars arrive as text (see yaml-text.ts), so that `${NAME}` can stand for a number too.
// Rules between keys are in rules.ts, so that a mistake in one key hides no other.
import { z } from "zod";
import { compressions } from "../base/compression.ts";
import { parseDurationMs, parseSizeBytes } from "./quantity.ts";

/** A key's documentation: its default and allowed values as text. */
export interface OptionFacts {
  readonly allowed: string;
  readonly default?: string;
}

const file = text(/^[^\0]+$/, "a path, absolute or from the config file's folder");

const connectionShape = {
  url: text(/^[^\0]+$/, "postgres://user:password@host:port/database"),
  host: text(/^[^\0,]+$/, "one name, one address, or the folder of a unix socket", "localhost"),
  port: wholeNumber(1, 65_535, 5432),
  database: text(/^[^\0]+$/, "the name of a database"),
  user: text(/^[^\0]+$/, "the name of a role"),
  password: text(/^[^\0]*$/, "text, best from the environment"),
  sslmode: choice(["disable", "allow", "prefer", "require", "verify-ca", "verify-full"], "prefer"),
  sslrootcert: file,
  sslcert: file,
  sslkey: file,
  connect_timeout: wholeNumber(1, 600, 10),
  receive_timeout: wholeNumber(1, 3600, 60),
};

/** One connection's settings, each optional here: which must be there is in connection.ts. */
export const connectionOptions = mapping(connectionShape).partial();
export type ConnectionSettings = z.output<typeof connectionOptions>;
export const connectionKeys = Object.keys(connectionShape) as readonly (keyof typeof connectionShape)[];

const columns = z
  .array(identifier("a column's name"), { error: "a list of column names" })
  .min(1, { error: "a list of at least one column name" })
  .refine((names) => new Set(names).size === names.length, { error: "a list that names each column once" });

const columnTypes = "string, double, decimal(p,s) with p from 1 to 38 and s up to p, portable, native";
const columnType = z.string({ error: columnTypes }).refine(isColumnType, { error: columnTypes });

const historyAllowed = "forever, or a duration from 1s to 36500d, such as 30d";
const history = durationOrWord("forever", "1s", "36500d", historyAllowed);

const tableOptions = mapping({
  mode: choice(["copy-and-stream", "stream-only", "copy-only"], "copy-and-stream"),
  include_columns: columns.optional().meta({ allowed: "a list of column names" }),
  exclude_columns: columns.optional().meta({ allowed: "a list of column names" }),
  types: z
    .record(z.string(), columnType, { error: "a mapping of columns to types" })
    .optional()
    .meta({ allowed: `a mapping of columns to types: ${columnTypes}` }),
  on_inexact: choice(["keep", "error"], "keep"),
  bloom_filter: columns.optional().meta({ allowed: "a list of column names" }),
  history: history.optional().meta({ allowed: historyAllowed, default: "the group's" }),
});

const tables = z.record(z.string(), z.preprocess(emptyAsMapping, tableOptions));

export const configOptions = mapping({
  group: text(/^[a-z0-9_]{1,40}$/, "1 to 40 characters of a-z, 0-9 and _"),
  source: mapping({ ...connectionShape, publication: identifier("the name of a publication") }).partial(),
  metadata: connectionOptions.optional(),
  storage: text(/^[^\0]+$/, "a folder, file:///folder or s3://bucket/prefix"),
  schemas: z.record(z.string(), z.union([z.literal("*"), tables], { error: '"*" or a mapping of tables' }), {
    error: 'a mapping of schemas, such as { public: "*" }',
  }),
  copy: mapping({
    parallel: wholeNumber(1, 64, 2),
    file_size: size("128MB", "1MB", "4GB"),
    snapshot_max_age: duration("1h", "1s", "240h"),
    max_rate: sizeOr("off", "100kB", "100GB", "50MB"),
  }).prefault({}),
  stream: mapping({
    flush_interval: duration("10s", "100ms", "1h"),
    streams: wholeNumber(1, 16, 1),
    file_size: size("128MB", "1MB", "4GB"),
    memory: size("128MB", "16MB", "64GB"),
    spill_folder: file.optional(),
    failover: choice(["on", "off"], "on"),
    lost_slot: choice(["stop", "resync"], "stop"),
  }).prefault({}),
  wal_budget: mapping({
    warning: optionalSize("1MB", "100000GB"),
    critical: optionalSize("1MB", "100000GB"),
    action: choice(["warn", "throttle copy", "drop slot"], "warn"),
  }).prefault({}),
  discovery_interval: duration("10s", "1s", "1h"),
  history: history.default(null).meta(facts(historyAllowed, "forever")),
  compact: mapping({
    every: durationOr("off", "1s", "366d", "1h"),
    grace: duration("24h", "0s", "366d"),
  }).prefault({}),
  verify: mapping({ every: durationOr("off", "1s", "366d", "1h") }).prefault({}),
  lease: duration("60s", "1s", "1h"),
  profile: choice(["portable", "native"], "portable"),
  compression: choice(compressions, "zstd"),
  http: httpAddress(),
});

export type Options = z.output<typeof configOptions>;

/** A mapping without other keys. Its message is the list of keys, which mistakes.ts turns into a sentence. */
function mapping<S extends z.ZodRawShape>(shape: S) {
  return z.strictObject(shape, { error: () => Object.keys(shape).join(", ") });
}

/** `documentedDefault` is only told here: connection.ts applies it, where a URL may have a say. */
function text(pattern: RegExp, allowed: string, documentedDefault?: string) {
  return z.string({ error: allowed }).regex(pattern, { error: allowed }).meta(facts(allowed, documentedDefault));
}

/** Where to listen. Port 0 is any that is free. */
function httpAddress() {
  const allowed = "host:port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080";
  return z
    .string({ error: allowed })
    .transform((value, context) => {
      const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+):(\d{1,5})$/.exec(value) ?? [];
      if (host !== undefined && Number(port) <= 65_535) {
        return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
      }
      context.addIssue({ code: "custom", message: allowed });
      return z.NEVER;
    })
    .optional()
    .meta({ allowed });
}

/** A Postgres identifier: 1 to 63 bytes (NAMEDATALEN - 1), any characters but NUL. */
function identifier(what: string) {
  const allowed = `${what}, 1 to 63 bytes`;
  return z.string({ error: allowed }).refine(isIdentifier, { error: allowed }).meta({ allowed });
}

export function isIdentifier(name: string): boolean {
  const length = Buffer.byteLength(name);
  return length >= 1 && length <= 63 && !name.includes("\0");
}

/** What a column may be written as: src/types/written-as.ts, which tells for which types each one is. */
function isColumnType(text: string): boolean {
  if (["string", "double", "portable", "native"].includes(text)) return true;
  const [, precision, scale] = /^decimal\( ?(\d{1,2}) ?, ?(\d{1,2}) ?\)$/.exec(text) ?? [];
  return Number(precision) >= 1 && Number(precision) <= 38 && Number(scale) <= Number(precision);
}

function choice<const T extends readonly [string, ...string[]]>(values: T, byDefault: T[number], says?: string) {
  const allowed = says ?? values.join(", ");
  return z
    .enum(values, { error: allowed })
    .default(byDefault as never)
    .meta(facts(allowed, byDefault));
}

function wholeNumber(min: number, max: number, byDefault: number) {
  const parse = (value: string) => (/^\d{1,9}$/.test(value) ? Number(value) : undefined);
  return ranged(parse, String(byDefault), String(min), String(max), `a whole number from ${min} to ${max}`);
}

function duration(byDefault: string, min: string, max: string) {
  return ranged(parseDurationMs, byDefault, min, max, `a duration from ${min} to ${max}, such as ${byDefault}`);
}

/** Null for the word. */
function durationOr(word: string, min: string, max: string, example: string) {
  const allowed = `${word}, or a duration from ${min} to ${max}, such as ${example}`;
  return durationOrWord(word, min, max, allowed).default(null).meta(facts(allowed, word));
}

function durationOrWord(word: string, min: string, max: string, allowed: string) {
  return valueOrWord(word, parseDurationMs, min, max, allowed);
}

function valueOrWord(
  word: string,
  parse: (value: string) => number | undefined,
  min: string,
  max: string,
  allowed: string,
) {
  return z.string({ error: allowed }).transform((value, context) => {
    if (value === word) return null;
    const parsed = parse(value);
    if (parsed !== undefined && parsed >= parse(min)! && parsed <= parse(max)!) return parsed;
    context.addIssue({ code: "custom", message: allowed });
    return z.NEVER;
  });
}

function size(byDefault: string, min: string, max: string) {
  return ranged(parseSizeBytes, byDefault, min, max, `a size from ${min} to ${max}, such as ${byDefault}`);
}

/** Null for the word. */
function sizeOr(word: string, min: string, max: string, example: string) {
  const allowed = `${word}, or a size from ${min} to ${max}, such as ${example}`;
  return valueOrWord(word, parseSizeBytes, min, max, allowed).default(null).meta(facts(allowed, word));
}

function optionalSize(min: string, max: string) {
  const allowed = `a size from ${min} to ${max}`;
  return between(parseSizeBytes, min, max, allowed).optional().meta({ allowed });
}

function ranged(
  parse: (value: string) => number | undefined,
  byDefault: string,
  min: string,
  max: string,
  allowed: string,
) {
  return between(parse, min, max, allowed).default(parse(byDefault)!).meta(facts(allowed, byDefault));
}

function between(parse: (value: string) => number | undefined, min: string, max: string, allowed: string) {
  return z.string({ error: allowed }).transform((value, context) => {
    const parsed = parse(value);
    if (parsed !== undefined && parsed >= parse(min)! && parsed <= parse(max)!) return parsed;
    context.addIssue({ code: "custom", message: allowed });
    return z.NEVER;
  });
}

function facts(allowed: string, byDefault: string | undefined): OptionFacts & Record<string, unknown> {
  return byDefault === undefined ? { allowed } : { allowed, default: byDefault };
}

/** `orders:` with nothing behind it means the same as `orders: {}`. */
function emptyAsMapping(value: unknown): unknown {
  return value === "" || value === null ? {} : value;
}
