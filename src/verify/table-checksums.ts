// One table compared at one point: the source as a snapshot sees it, the mirror as its files say. Both sides sum
// checksums up by bucket; only of buckets that differ, keys and checksums of the rows are brought together.
// The caller holds the snapshot and sees to it that the mirror has reached its position.
import type { ClientBase } from "pg";
import type { Lsn } from "../base/lsn.ts";
import type { ManifestTable } from "../metadata/status.ts";
import type { PgType } from "../postgres/catalog.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import type { MirrorTable } from "../query/mirror-table.ts";
import { baseType } from "../types/registry.ts";
import { addBucket, type BucketSum, type BucketSums, bucketScheme, compareBuckets } from "./buckets.ts";
import {
  type ChecksumPlan,
  keyBoundsSql,
  mirrorBucketsSql,
  mirrorRowsSql,
  sourceBucketsSql,
  sourceRowsSql,
} from "./checksum-sql.ts";
import { columnText, type NotCompared } from "./column-text.ts";
import type { ScratchDatabase } from "./scratch-database.ts";

const ROWS_PER_FETCH = 5000;
/** Up to this share of a table's rows the key's index finds them faster than a scan. */
const FEW = 0.05;
const WHOLE_NUMBERS = new Set([20, 21, 23]);

export interface TablePlan extends ChecksumPlan {
  readonly entry: ManifestTable;
  readonly notCompared: readonly NotCompared[];
}

export interface DifferingRow {
  readonly kind: "missing" | "extra" | "different";
  /** Texts of the identity's columns, in its order. Values of rows: for the one who asked, never for a log. */
  readonly key: readonly string[];
}

export interface TableDifferences {
  readonly sourceRows: number;
  readonly mirrorRows: number;
  readonly buckets: number;
  readonly differingBuckets: number;
  /** Rows whose keys and checksums were brought together, of both sides. */
  readonly listedRows: number;
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  /** All of them, by key; none for tables whose rows have no name. */
  readonly rows: readonly DifferingRow[];
}

/** What the source is asked for, in a transaction of the snapshot. Null: none of its columns can be compared. */
export async function planTable(
  source: ClientBase,
  entry: ManifestTable,
  types: ReadonlyMap<number, PgType>,
): Promise<TablePlan> {
  const { table } = entry;
  const named = table.identity.kind === "none" ? [] : table.identity.columns;
  const compared = table.columns.map((column) => columnText(column, types, named.includes(column.name)));
  const columns = compared.flatMap((each) => ("text" in each ? [each.text] : []));
  const notCompared = compared.flatMap((each) => ("not" in each ? [each.not] : []));
  const key = named.flatMap((name) => columns.filter(({ column }) => column.name === name));
  const relation = await relationSql(source, table);
  const [encoding, version] = await one(source, "select getdatabaseencoding(), current_setting('server_version_num')");
  const server = { utf8: encoding === "UTF8", readsHex: Number(version) >= 160000 };
  // Without all of its key a row has no name here.
  const plan = { relation, columns, key: key.length === named.length ? key : [], ...server, entry, notCompared };
  return { ...plan, scheme: bucketScheme(rowsExpected(entry), await keyBounds(source, plan, types)) };
}

async function keyBounds(
  source: ClientBase,
  plan: Pick<TablePlan, "relation" | "key">,
  types: ReadonlyMap<number, PgType>,
): Promise<{ min: bigint; max: bigint } | null> {
  const [first] = plan.key;
  if (!first || !WHOLE_NUMBERS.has(baseType(first.column.typeOid, first.column.typmod, types).oid)) return null;
  const [min, max] = await one(source, keyBoundsSql(plan));
  return min == null || max == null ? null : { min: BigInt(min), max: BigInt(max) };
}

/** ONLY leaves out the tables that inherit from it, which are tables of their own; partitions are not. */
async function relationSql(source: ClientBase, { schema, name }: { readonly schema: string; readonly name: string }) {
  const relation = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
  const { rows } = await source.query<{ kind: string }>(
    "select relkind as kind from pg_catalog.pg_class where oid = to_regclass($1)",
    [relation],
  );
  return rows[0]?.kind === "p" ? relation : `only ${relation}`;
}

function rowsExpected({ table }: ManifestTable): number {
  return table.copyRows + table.changeRows;
}

export interface Sides {
  readonly source: ClientBase;
  readonly db: ScratchDatabase;
  readonly mirror: MirrorTable;
  readonly at: Lsn;
}

/** The source's side alone: it needs nothing of the mirror, which may still be on its way. */
export async function sourceBuckets(source: ClientBase, plan: TablePlan, where?: string): Promise<BucketSums> {
  const sums = new Map<bigint, BucketSum>();
  for (const [bucket, rows, sum] of await texts(source, sourceBucketsSql(plan, where))) {
    addBucket(sums, BigInt(bucket!), Number(rows), BigInt(sum!));
  }
  return sums;
}

/** The mirror's side. Throws DuckDB's error for a file that cannot be read. */
export async function mirrorBuckets({ db, mirror, at }: Omit<Sides, "source">, plan: TablePlan): Promise<BucketSums> {
  const sums = new Map<bigint, BucketSum>();
  for (const [bucket, rows, sum] of await db.rows(mirrorBucketsSql(plan, mirror, at))) {
    addBucket(sums, BigInt(String(bucket)), Number(rows), BigInt(String(sum)));
  }
  return sums;
}

/** Brings both sides together and finds the rows of the buckets that differ. */
export async function findDifferences(
  sides: Sides,
  plan: TablePlan,
  source: BucketSums,
  mirror: BucketSums,
): Promise<TableDifferences> {
  const { sourceRows, mirrorRows, buckets, differing, differingRows } = compareBuckets(source, mirror);
  const counts = { sourceRows, mirrorRows, buckets, differingBuckets: differing.length };
  if (differing.length === 0) {
    return { ...counts, listedRows: 0, missing: 0, extra: 0, different: 0, rows: [] };
  }
  const few = differingRows < sourceRows * FEW;
  const listed = await listSource(sides, plan, differing, few);
  const { db } = sides;
  await db.run(`CREATE OR REPLACE TABLE listed_mirror AS ${mirrorRowsSql(plan, sides.mirror, sides.at, differing)}`);
  const [[listedMirror] = []] = await db.rows("SELECT count(*)::VARCHAR FROM listed_mirror");
  const found = await compareListed(db, plan.key.length > 0);
  for (const name of ["listed_source", "listed_mirror"]) await db.run(`DROP TABLE ${name}`);
  return { ...counts, listedRows: listed + Number(listedMirror), ...found };
}

async function listSource(
  { source, db }: Sides,
  plan: TablePlan,
  differing: readonly bigint[],
  few: boolean,
): Promise<number> {
  await db.run("CREATE OR REPLACE TABLE listed (row VARCHAR)");
  let count = 0;
  const batches = async function* () {
    for await (const rows of fetched(source, sourceRowsSql(plan, differing, few), few)) {
      count += rows.length;
      yield rows.map((row) => JSON.stringify(row));
    }
  };
  await db.append("listed", batches());
  // Written by DuckDB again, so that equal keys have equal texts.
  const key = plan.key.length > 0 ? "to_json(texts[2:])::VARCHAR" : "NULL::VARCHAR";
  await db.run(`CREATE OR REPLACE TABLE listed_source AS SELECT texts[1]::BIGINT AS h, ${key} AS key
    FROM (SELECT from_json(row, '["VARCHAR"]') AS texts FROM listed)`);
  await db.run("DROP TABLE listed");
  return count;
}

async function* fetched(source: ClientBase, sql: string, byIndex: boolean): AsyncGenerator<(string | null)[][]> {
  if (byIndex) await source.query("set local enable_seqscan = off");
  await source.query(`declare pg_flo_listed no scroll cursor for ${sql}`);
  try {
    for (;;) {
      const rows = await texts(source, `fetch ${ROWS_PER_FETCH} from pg_flo_listed`);
      if (rows.length === 0) return;
      yield rows;
    }
  } finally {
    await source.query("close pg_flo_listed; set local enable_seqscan = on");
  }
}

/** Counts every listed row on both sides: what does not come out at zero differs. */
async function compareListed(
  db: ScratchDatabase,
  keyed: boolean,
): Promise<Pick<TableDifferences, "missing" | "extra" | "different" | "rows">> {
  const counted = `SELECT key, h, sum(n)::BIGINT AS n FROM (SELECT key, h, 1 AS n FROM listed_source
    UNION ALL SELECT key, h, -1 FROM listed_mirror) GROUP BY key, h HAVING sum(n) <> 0`;
  if (!keyed) {
    const [[missing, extra] = []] = await db.rows(`SELECT coalesce(sum(n) FILTER (n > 0), 0)::VARCHAR,
      coalesce(-sum(n) FILTER (n < 0), 0)::VARCHAR FROM (${counted})`);
    return { missing: Number(missing), extra: Number(extra), different: 0, rows: [] };
  }
  // A key that the source has is read again whatever the mirror has of it; one that it has not is deleted.
  const found = await db.rows(`SELECT key, CASE WHEN NOT key IN (SELECT key FROM listed_source) THEN 'extra'
      WHEN key IN (SELECT key FROM listed_mirror) THEN 'different' ELSE 'missing' END AS kind
    FROM (SELECT DISTINCT key FROM (${counted})) ORDER BY kind, key`);
  const rows = found.map(([key, kind]) => ({
    key: JSON.parse(String(key)) as string[],
    kind: kind as DifferingRow["kind"],
  }));
  const count = (kind: DifferingRow["kind"]) => rows.filter((row) => row.kind === kind).length;
  return { missing: count("missing"), extra: count("extra"), different: count("different"), rows };
}

async function texts(source: ClientBase, sql: string): Promise<(string | null)[][]> {
  const { rows } = await source.query<(string | null)[]>({
    text: sql,
    rowMode: "array",
    types: { getTypeParser: () => (text: unknown) => text }, // as printed
  });
  return rows;
}

async function one(source: ClientBase, sql: string): Promise<(string | null)[]> {
  return (await texts(source, sql))[0] ?? [];
}
