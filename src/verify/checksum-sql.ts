// Checksums as SQL, the same on both sides: of a row, the first 64 bits of the MD5 of its columns' texts; of a bucket,
// the number of its rows and the sum of their checksums. Rows stay where they are. Pure.
import { quoteIdentifier, quoteLiteral } from "../postgres/quote.ts";
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
}

/** concat takes no more than 100 arguments at the source. */
const ARGUMENTS_MAX = 96;

/** Rows `(bucket, rows, sum)` at the source. `where` takes a piece of the table. */
export function sourceBucketsSql(plan: ChecksumPlan, where = "true"): string {
  const { relation, scheme } = plan;
  if (scheme.kind === "range") {
    return `select ${sourceBucket(plan)}::text as bucket, count(*)::text, sum(${sourceHash(plan)})::text
      from ${relation} where ${where} group by ${sourceBucket(plan)}`;
  }
  return `select (h & ${scheme.mask})::text, count(*)::text, sum(h)::text
    from (${hashedRows(plan, where)}) hashed group by h & ${scheme.mask}`;
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

/** Rows `(bucket, rows, sum)` of the mirror at the position `at`. The sum is of unsigned checksums. */
export function mirrorBucketsSql(plan: ChecksumPlan, table: MirrorTable, at: bigint): string {
  return `SELECT bucket::VARCHAR, count(*)::VARCHAR, sum(h)::VARCHAR FROM (${mirrorRows(plan, table, at)}) GROUP BY bucket`;
}

/** Rows `(h, key)` of the mirror in these buckets: the checksum as the source has it, the key as a JSON array of texts. */
export function mirrorRowsSql(plan: ChecksumPlan, table: MirrorTable, at: bigint, buckets: readonly bigint[]): string {
  const signed = "(h::HUGEINT - CASE WHEN h >= 9223372036854775808 THEN 18446744073709551616 ELSE 0 END)::BIGINT";
  return `SELECT ${signed} AS h, key FROM (${mirrorRows(plan, table, at)})
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
  const parts = plan.columns.flatMap((text, position) => mirrorParts(text, `c${indexes[position]}`));
  const key = plan.key.map((text) => `c${indexes[plan.columns.indexOf(text)]}`);
  const keySql =
    key.length === 0 ? "NULL::VARCHAR" : `to_json([${key.map((name) => `${name}::VARCHAR`).join(", ")}])::VARCHAR`;
  const digest = `(md5_number(${nested(parts)}) & 18446744073709551615::UHUGEINT)::UBIGINT`;
  const hashed = `SELECT ${[`${digest} AS h`, `${keySql} AS key`, ...(key[0] ? [`${key[0]} AS k`] : [])].join(", ")} FROM (${rows})`;
  return `${ctes} SELECT h, key, ${mirrorBucket(plan.scheme)} AS bucket FROM (${turnedRound(hashed)})`;
}

/**
 * md5_number takes the digest's first byte for its last; turned round it is what the source's bits say, for less than half
 * of what the way over hexadecimal digits costs. As subqueries, so that nothing is computed twice.
 */
function turnedRound(rows: string): string {
  const swaps = [
    [8, 0x00ff00ff00ff00ffn],
    [16, 0x0000ffff0000ffffn],
    [32, 0xffffffffn],
  ] as const;
  return swaps.reduce((from, [bits, mask]) => {
    const swapped = `((h & ${mask}::UBIGINT) << ${bits}) | ((h >> ${bits}) & ${mask}::UBIGINT)`;
    return `SELECT * REPLACE (${swapped} AS h) FROM (${from})`;
  }, rows);
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

function sourceHash({ columns, utf8 }: ChecksumPlan): string {
  const inUtf8 = (text: string) => (utf8 ? text : `convert_to(${text}, 'UTF8')`);
  const parts = columns.flatMap(({ column, framing, source }) => {
    if (framing === "bare") return [source, "','"];
    if (framing === "sized") return [`octet_length(${inUtf8(source)})`, "':'", source, "','"];
    // Of a composite, IS NULL would say that all of its fields are.
    return [`${quoteIdentifier(column.name)} is not distinct from null`, source, "','"];
  });
  // Without the digits that do not count, which would be read too.
  return `('x' || left(md5(${inUtf8(nested(parts))}), 16))::bit(64)::int8`;
}

function mirrorParts({ framing }: ColumnText, value: string): string[] {
  if (framing === "bare") return [value, "','"];
  if (framing === "sized") return [`strlen(${value})`, "':'", value, "','"];
  return [`CASE WHEN ${value} IS NULL THEN 't' ELSE 'f' END`, value, "','"];
}

/** concat of any number of parts, which leaves NULLs out on both sides. */
function nested(parts: readonly string[]): string {
  const pieces: string[] = [];
  for (let from = 0; from < parts.length; from += ARGUMENTS_MAX) {
    pieces.push(`concat(${parts.slice(from, from + ARGUMENTS_MAX).join(", ")})`);
  }
  if (pieces.length === 0) return quoteLiteral("");
  return pieces.length <= ARGUMENTS_MAX
    ? pieces.length === 1
      ? pieces[0]!
      : `concat(${pieces.join(", ")})`
    : nested(pieces);
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
