// Checksums as SQL, the same on both sides: of a row, the first 60 bits of the MD5 of its columns' texts; of a bucket,
// the number of its rows and the sum of their checksums. Rows stay where they are. Pure.
import { quoteIdentifier } from "../postgres/quote.ts";
import type { MirrorTable } from "../query/mirror-table.ts";
import { newestVersion } from "../query/mirror-table.ts";
import type { ScannedColumn } from "../query/scan-sql.ts";
import { stateRows } from "../query/state-sql.ts";
import { type BucketScheme, bucketBounds } from "./buckets.ts";
import type { ColumnText } from "./column-text.ts";

export interface ChecksumPlan {
  /** FROM item of the source, as `only "public"."orders"`. */
  readonly relation: string;
  /** In the order of the table. */
  readonly columns: readonly ColumnText[];
  /** Those of the identity; none where rows have no name. */
  readonly key: readonly ColumnText[];
  readonly scheme: BucketScheme;
  /** The source's database is in UTF8; else texts are converted to be measured and summed. */
  readonly utf8: boolean;
  /** The source reads whole numbers from hexadecimal digits: since PostgreSQL 16. */
  readonly readsHex: boolean;
}

/** No function takes more than 100 arguments at the source. */
const ARGUMENTS_MAX = 96;

/** Rows `(bucket, rows, sum)` at the source. `where` takes a piece of the table. */
export function sourceBucketsSql(plan: ChecksumPlan, where = "true"): string {
  const { scheme } = plan;
  const hash = scheme.kind === "hash";
  // Grouped by a column of the subquery, of which PostgreSQL supposes few values. Of an expression over the key it
  // supposes as many as there are keys, and sorts the whole table on disk.
  const rows = hashedRows(plan, where, hash ? [] : [`${sourceBucket(plan)} as bucket`]);
  const bucket = hash ? `h & ${scheme.mask}` : "bucket";
  return `select (${bucket})::text, count(*)::text, sum(h)::text from (${rows}) hashed group by ${bucket}`;
}

/** Rows `(checksum, key texts …)` of the source in these buckets. `few`: so few that the key's index finds them faster. */
export function sourceRowsSql(plan: ChecksumPlan, buckets: readonly bigint[], few: boolean): string {
  const { relation, key, scheme } = plan;
  const keys = key.map((column, at) => `concat(${column.source}) as k${at}`);
  const list = `'{${buckets.join(",")}}'::int8[]`;
  if (scheme.kind === "hash") {
    const named = key.map((_, at) => `, k${at}`).join("");
    return `select h::text${named} from (${hashedRows(plan, "true", keys)}) hashed
      where h & ${scheme.mask} = any(${list})`;
  }
  const select = `select ${[`(${sourceHash(plan)})::text as h`, ...keys].join(", ")} from ${relation}`;
  if (!few) return `${select} where ${sourceBucket(plan)} = any(${list})`;
  const bounds = spans(scheme, buckets);
  const [from, to] = [bounds.map((span) => span.from), bounds.map((span) => span.to)];
  const name = quoteIdentifier(key[0]!.column.name);
  const named = key.map((_, at) => `, found.k${at}`).join("");
  // A subquery with OFFSET is planned by itself: one look into the index for each span.
  return `select found.h${named} from unnest('{${from.join(",")}}'::int8[], '{${to.join(",")}}'::int8[]) as span(low, high),
    lateral (${select} where ${name} >= span.low and ${name} <= span.high offset 0) found`;
}

/** Smallest and largest whole number of the key's first column. */
export function keyBoundsSql({ relation, key }: Pick<ChecksumPlan, "relation" | "key">): string {
  const name = quoteIdentifier(key[0]!.column.name);
  return `select min(${name})::text, max(${name})::text from ${relation}`;
}

/** Rows `(bucket, rows, sum)` of the mirror at the position `at`. */
export function mirrorBucketsSql(plan: ChecksumPlan, table: MirrorTable, at: bigint): string {
  return `SELECT bucket::VARCHAR, count(*)::VARCHAR, sum(h)::VARCHAR FROM (${mirrorRows(plan, table, at)}) GROUP BY bucket`;
}

/** Rows `(h, key)` of the mirror in these buckets: the checksum as the source has it, the key as a JSON array of texts. */
export function mirrorRowsSql(plan: ChecksumPlan, table: MirrorTable, at: bigint, buckets: readonly bigint[]): string {
  return `SELECT h::BIGINT AS h, key FROM (${mirrorRows(plan, table, at)})
    WHERE bucket IN (SELECT unnest([${buckets.join(", ")}]::BIGINT[]))`;
}

function mirrorRows(plan: ChecksumPlan, table: MirrorTable, at: bigint): string {
  const { columns } = newestVersion(table);
  const indexes = plan.columns.map((text) => columns.findIndex((column) => column.name === text.column.name));
  const texts = new Map(plan.columns.map((text, position) => [indexes[position]!, text]));
  const show = (column: ScannedColumn) => {
    const text = texts.get(column.index);
    if (!text) return { value: "NULL", old: "NULL" };
    const { type, value, exact, old, oldExact } = column;
    return { value: text.mirror({ value, type, exact }), old: text.mirror({ value: old, type, exact: oldExact }) };
  };
  const { ctes, rows } = stateRows(table, { at, show });
  const fields = plan.columns.map((text, position) => mirrorField(text, `c${indexes[position]}`));
  const key = plan.key.map((text) => `c${indexes[plan.columns.indexOf(text)]}`);
  const keySql =
    key.length === 0 ? "NULL::VARCHAR" : `to_json([${key.map((name) => `${name}::VARCHAR`).join(", ")}])::VARCHAR`;
  const digest = `(md5_number(${rowText(fields)}) & 18446744073709551615::UHUGEINT)::UBIGINT`;
  const hashed = `SELECT ${[`${digest} AS h`, `${keySql} AS key`, ...(key[0] ? [`${key[0]} AS k`] : [])].join(", ")} FROM (${rows})`;
  return `${ctes} SELECT h, key, ${mirrorBucket(plan.scheme)} AS bucket FROM (${turnedRound(hashed)})`;
}

/**
 * md5_number takes the digest's first byte for its last; turned round, and without its last four bits, it is what the source
 * has, for less than half of what the way over hexadecimal digits costs. As subqueries, so that nothing is computed twice.
 */
function turnedRound(rows: string): string {
  const swaps = [
    [8, 0x00ff00ff00ff00ffn],
    [16, 0x0000ffff0000ffffn],
    [32, 0xffffffffn],
  ] as const;
  const turned = swaps.reduce((from, [bits, mask]) => {
    const swapped = `((h & ${mask}::UBIGINT) << ${bits}) | ((h >> ${bits}) & ${mask}::UBIGINT)`;
    return `SELECT * REPLACE (${swapped} AS h) FROM (${from})`;
  }, rows);
  return `SELECT * REPLACE (h >> 4 AS h) FROM (${turned})`;
}

function mirrorBucket(scheme: BucketScheme): string {
  if (scheme.kind === "hash") return `(h & ${scheme.mask})::BIGINT`;
  return `least(greatest(k::BIGINT, ${int8(scheme.min)}), ${int8(scheme.max)}) // ${int8(scheme.width)}`;
}

function int8(value: bigint): string {
  return `'${value}'::BIGINT`;
}

/** A function that PostgreSQL takes for changing keeps the checksum from being computed twice for a row. */
function hashedRows(plan: ChecksumPlan, where: string, more: readonly string[] = []): string {
  return `select ${[`${sourceHash(plan)} as h`, "clock_timestamp()", ...more].join(", ")} from ${plan.relation} where ${where}`;
}

function sourceBucket({ key, scheme }: ChecksumPlan): string {
  if (scheme.kind === "hash") throw new Error("rows are bucketed by their checksum");
  return `(${quoteIdentifier(key[0]!.column.name)}::int8 / '${scheme.width}'::int8)`;
}

function sourceHash({ columns, utf8, readsHex }: ChecksumPlan): string {
  const inUtf8 = (text: string) => (utf8 ? text : `convert_to(${text}, 'UTF8')`);
  const fields = columns.map(({ column, framing, source }): Field => {
    // Of a composite, IS NULL would say that all of its fields are.
    const isNull = `${quoteIdentifier(column.name)} is not distinct from null`;
    const size =
      framing === "sized text"
        ? `octet_length(${inUtf8(source)})`
        : `case when not (${isNull}) then octet_length(${inUtf8(`concat(${source})`)}) end`;
    return { isNull, flag: isNull, parts: framing === "bare" ? [source] : [size, source] };
  });
  // A bigint has a sign, so it takes 15 digits. Those that do not count are cut off: they would be read too.
  const digits = `left(md5(${inUtf8(rowText(fields))}), 15)`;
  return readsHex ? `('0x' || ${digits})::int8` : `('x' || ${digits})::bit(60)::int8`;
}

function mirrorField({ framing }: ColumnText, value: string): Field {
  const isNull = `${value} IS NULL`;
  const flag = `CASE WHEN ${isNull} THEN 't' ELSE 'f' END`;
  return { isNull, flag, parts: framing === "bare" ? [value] : [`strlen(${value})`, value] };
}

/** SQL of a column in a row's text. Parts are NULL where the value is. */
interface Field {
  readonly isNull: string;
  /** Printed as t or f. */
  readonly flag: string;
  readonly parts: readonly string[];
}

/**
 * A row's text, on both sides: which values are NULL, if any is, then the parts of all others. A server pays for each
 * argument of concat as for a value; concat_ws puts the commas in for nothing, and leaves NULLs out.
 */
function rowText(fields: readonly Field[]): string {
  const flags = nested(
    "concat(",
    fields.map(({ flag }) => flag),
  );
  const nulls = `case when ${fields.map(({ isNull }) => isNull).join(" or ")} then ${flags} else '' end`;
  return nested("concat_ws(',', ", [nulls, ...fields.flatMap(({ parts }) => parts)]);
}

/** A call of any number of arguments. */
function nested(call: "concat(" | "concat_ws(',', ", parts: readonly string[]): string {
  if (parts.length <= ARGUMENTS_MAX) return `${call}${parts.join(", ")})`;
  const pieces: string[] = [];
  for (let from = 0; from < parts.length; from += ARGUMENTS_MAX) {
    pieces.push(nested(call, parts.slice(from, from + ARGUMENTS_MAX)));
  }
  return nested(call, pieces);
}

/** Bounds of buckets in order, neighbours as one. Where nothing was beyond, the first and the last one have no end. */
function spans(
  scheme: Extract<BucketScheme, { kind: "range" }>,
  buckets: readonly bigint[],
): { from: bigint; to: bigint }[] {
  const joined: { from: bigint; to: bigint }[] = [];
  for (const { from, to } of buckets.map((bucket) => bucketBounds(scheme, bucket))) {
    const last = joined.at(-1);
    if (last && last.to + 1n >= from) last.to = to;
    else joined.push({ from, to });
  }
  const [low, high] = [-(2n ** 63n), 2n ** 63n - 1n];
  return joined.map(({ from, to }) => ({ from: from < low ? low : from, to: to > high ? high : to }));
}
