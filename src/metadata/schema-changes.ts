// What a changed definition means for a table that is mirrored: the next schema version, with all files staying as they
// are, or a new copy, because the log does not tell what happened to the rows that are there. Pure. When it cannot be
// proved that the files together with the log tell every value, the answer is the copy.
import { isDeepStrictEqual } from "node:util";
import type { ReplicaIdentity, SourceColumn } from "../postgres/catalog.ts";
import type { DefinitionTraces } from "../postgres/definition-traces.ts";
import { sameParts } from "../postgres/type-parts.ts";

export interface Definition<Column extends SourceColumn = SourceColumn> {
  readonly columns: readonly Column[];
  readonly identity: ReplicaIdentity;
  /** Null: not known, from before they were kept. */
  readonly traces: DefinitionTraces | null;
}

export type SchemaChange<Column extends SourceColumn = SourceColumn> =
  | { readonly kind: "none" }
  /** Rows and definition are what they were, only their traces moved (VACUUM FULL, a new partition). */
  | { readonly kind: "traces" }
  /**
   * `ambiguous`: only right if no change was logged between the steps that led here, because columns of one type came
   * and went: what is in the log cannot tell which of them it means.
   */
  | {
      readonly kind: "version";
      readonly columns: readonly Column[];
      readonly summary: string;
      readonly ambiguous: boolean;
    }
  | { readonly kind: "copy"; readonly reason: string };

export interface ChangeFacts {
  /** The publication names the table's columns: a new one is published later than it is there. */
  readonly listed: boolean;
  /** Leaves that are new and were empty when they were looked at. */
  readonly emptyLeaves: ReadonlySet<number>;
}

/** What leads from the stored definition to the one that the source has now. */
export function planSchemaChange<Column extends SourceColumn>(
  stored: Definition<Column>,
  now: Definition<Column>,
  facts: ChangeFacts,
): SchemaChange<Column> {
  const reason =
    identityReason(stored, now) ?? columnReason(stored, now, facts) ?? partitionReason(stored, now, facts) ?? null;
  if (reason !== null) return { kind: "copy", reason };
  const before = new Map(stored.columns.map((column) => [column.attnum, column]));
  const columns = now.columns.map((column) => {
    const known = before.get(column.attnum);
    // A rewrite writes the value into every row, and the catalog forgets it: files of older versions still lack it.
    if (!known) return column;
    const { missing: _, ...rest } = column;
    return (known.missing === undefined ? rest : { ...rest, missing: known.missing }) as Column;
  });
  const summary = summaryOf(stored, { ...now, columns });
  if (summary === "") {
    return isDeepStrictEqual(stored.traces, now.traces) ? { kind: "none" } : { kind: "traces" };
  }
  return { kind: "version", columns, summary, ambiguous: isAmbiguous(stored.columns, now.columns) };
}

/** Rows are named by the same columns, whatever these are called. FULL beside a key names them by the key too. */
function identityReason(stored: Definition, now: Definition): string | null {
  const named = ({ identity, columns }: Definition) => {
    const names = identity.kind === "none" ? [] : identity.columns;
    return columns.filter(({ name }) => names.includes(name)).map(({ attnum }) => attnum);
  };
  const [before, after] = [named(stored), named(now)];
  const same = before.length === after.length && before.every((attnum) => after.includes(attnum));
  const kinds = new Set([stored.identity.kind, now.identity.kind]);
  const alike = kinds.size === 1 || (!kinds.has("none") && before.length > 0);
  return same && alike ? null : "its key or replica identity is another one";
}

function columnReason(stored: Definition, now: Definition, { listed }: ChangeFacts): string | null {
  const before = new Map(stored.columns.map((column) => [column.attnum, column]));
  const added = now.columns.filter(({ attnum }) => !before.has(attnum));
  for (const column of now.columns) {
    const known = before.get(column.attnum);
    if (!known) continue;
    const reason = valueReason(known, column);
    if (reason !== null) return `column ${quoted(column)} ${reason}`;
  }
  const [first] = added;
  if (stored.traces === null || now.traces === null) {
    const typed = now.columns.some((column) => {
      const known = before.get(column.attnum);
      return known !== undefined && known.typmod !== column.typmod;
    });
    return first || typed ? "it is not known whether its rows were rewritten" : null;
  }
  const { lastAttnum } = stored.traces;
  const included = added.find(({ attnum }) => attnum <= lastAttnum);
  if (included) return `column ${quoted(included)} was left out before`;
  const generated = added.find((column) => column.generated !== "");
  if (generated) return `column ${quoted(generated)} is generated, its values are not in the log`;
  if (listed && (first || stored.columns.some(({ attnum }) => !now.columns.some((each) => each.attnum === attnum)))) {
    return "its columns are listed in the publication, which was changed later than the table";
  }
  const varying = added.find(({ attnum }) => now.traces!.varying.includes(attnum));
  if (varying) return `column ${quoted(varying)} has not the same default in all partitions' older rows`;
  return rewriteReason(stored.traces, now.traces, added, now.columns);
}

/** Null: every value of the column is in the files what it is in the table now. */
function valueReason(known: SourceColumn, now: SourceColumn): string | null {
  if (known.generated !== now.generated) return "is computed otherwise";
  if (known.writtenAs !== now.writtenAs) return "is to be written otherwise";
  if (known.anyBytes !== now.anyBytes) return "has another encoding";
  if (known.typeOid === now.typeOid && known.typmod === now.typmod) {
    return sameParts(known.typeParts, now.typeParts) ? null : "has values that look otherwise now";
  }
  return isWidened(known, now) ? null : `has another type: ${known.typeName}, now ${now.typeName}`;
}

const VARCHAR = 1043;
const TEXT = 25;
const NUMERIC = 1700;
/** varbit and the types of time: their typmod is a length or a precision. Their files look the same with any. */
const MEASURED = new Set([1562, 1083, 1114, 1184, 1266]);

/**
 * Types whose values stay as they are, byte by byte, and whose files the wider type reads. PostgreSQL rewrites none of
 * these; that it did not is looked at beside.
 */
export function isWidened(known: SourceColumn, now: SourceColumn): boolean {
  if (known.writtenAs !== undefined && known.writtenAs !== "portable" && known.writtenAs !== "native") return false;
  const text = (oid: number) => oid === TEXT || oid === VARCHAR;
  if (text(known.typeOid) && text(now.typeOid)) return now.typmod < 0 || fits(known.typmod, now.typmod);
  if (known.typeOid !== now.typeOid) return false;
  if (MEASURED.has(now.typeOid)) return now.typmod < 0 || fits(known.typmod, now.typmod);
  if (now.typeOid !== NUMERIC || known.typmod < 0) return false;
  const [from, to] = [decimal(known.typmod), now.typmod < 0 ? { precision: 38, scale: 18 } : decimal(now.typmod)];
  // As PostgreSQL has it the scale must be the same, or be no longer limited; and both must be decimals in files.
  if (from.scale < 0 || from.precision > 38 || to.precision > 38) return false;
  if (now.typmod >= 0) return to.scale === from.scale && to.precision >= from.precision;
  return from.scale <= to.scale && from.precision - from.scale <= to.precision - to.scale;
}

function fits(known: number, now: number): boolean {
  return known >= 0 && known <= now;
}

function decimal(typmod: number): { precision: number; scale: number } {
  return { precision: ((typmod - 4) >> 16) & 0xffff, scale: (((typmod - 4) & 0x7ff) ^ 1024) - 1024 };
}

/**
 * ALTER TABLE rewrites rows with values that are in no log: a volatile default, a type with USING, also one that ends
 * with the same type. Then the rows are in another file, and the columns' entries in the catalog were touched. VACUUM
 * FULL, CLUSTER and TRUNCATE do the first alone.
 */
function rewriteReason(
  stored: DefinitionTraces,
  now: DefinitionTraces,
  added: readonly SourceColumn[],
  columns: readonly SourceColumn[],
): string | null {
  const rewritten = Object.entries(stored.heaps).some(
    ([oid, file]) => now.heaps[oid] !== undefined && now.heaps[oid] !== file,
  );
  const touched = columns.some(({ attnum }) => {
    const version = stored.rowVersions[attnum];
    return version !== undefined && version !== now.rowVersions[attnum] && !forgotten(stored, now, attnum);
  });
  return rewritten && (touched || added.length > 0)
    ? "its rows were rewritten, with values that are not in the log"
    : null;
}

/** VACUUM FULL has written the missing value into all rows: that alone touched the column's entry. */
function forgotten(stored: DefinitionTraces, now: DefinitionTraces, attnum: number): boolean {
  const known = stored.defaults[attnum];
  return (
    stored.missing.includes(attnum) &&
    !now.missing.includes(attnum) &&
    known !== undefined &&
    known === now.defaults[attnum]
  );
}

/** Rows of a partition that comes or goes are in no log, nor is a TRUNCATE of one. */
function partitionReason(stored: Definition, now: Definition, { emptyLeaves }: ChangeFacts): string | null {
  const [before, after] = [stored.traces, now.traces];
  if (before === null || after === null || !isPartitioned(before, after)) return null;
  const born = new Set(after.born);
  for (const [oid, file] of Object.entries(after.heaps)) {
    const known = before.heaps[oid];
    if (known === undefined && !born.has(Number(oid)) && !emptyLeaves.has(Number(oid)))
      return "a partition with rows was attached";
    if (known !== undefined && known !== file) return "a partition was truncated or rewritten";
    if (known !== undefined && before.attached[oid] !== after.attached[oid])
      return "a partition was detached and attached";
  }
  return Object.keys(before.heaps).some((oid) => after.heaps[oid] === undefined) ? "a partition is gone" : null;
}

function isPartitioned(before: DefinitionTraces, after: DefinitionTraces): boolean {
  return before.partitioned || after.partitioned;
}

/** Leaves whose rows, if they have some, did not come in as the table's. */
export function unknownLeaves(stored: DefinitionTraces | null, now: DefinitionTraces | null): number[] {
  if (!stored || !now) return [];
  const born = new Set(now.born);
  return Object.keys(now.heaps)
    .map(Number)
    .filter((oid) => stored.heaps[oid] === undefined && !born.has(oid));
}

/** For people; empty when nothing changed that a version has. */
function summaryOf(stored: Definition, now: Definition): string {
  const before = new Map(stored.columns.map((column) => [column.attnum, column]));
  const left = new Set(now.columns.map(({ attnum }) => attnum));
  const parts = now.columns.flatMap((column) => {
    const known = before.get(column.attnum);
    if (!known) return [`column ${quoted(column)} is new`];
    return [
      ...(known.name === column.name ? [] : [`column ${quoted(known)} is called ${quoted(column)}`]),
      ...(known.typeName === column.typeName ? [] : [`column ${quoted(column)} is ${column.typeName}`]),
      ...(known.notNull === column.notNull
        ? []
        : [`column ${quoted(column)} ${column.notNull ? "has no NULL" : "may be NULL"}`]),
    ];
  });
  const gone = stored.columns
    .filter(({ attnum }) => !left.has(attnum))
    .map((column) => `column ${quoted(column)} is gone`);
  const identity =
    JSON.stringify(stored.identity) === JSON.stringify(now.identity) ? [] : ["its replica identity is told otherwise"];
  return [...gone, ...parts, ...identity].join(", ");
}

function isAmbiguous(stored: readonly SourceColumn[], now: readonly SourceColumn[]): boolean {
  const gone = stored.filter(({ attnum }) => !now.some((column) => column.attnum === attnum));
  const added = now.filter(({ attnum }) => !stored.some((column) => column.attnum === attnum));
  return gone.some((left) => added.some((came) => came.typeOid === left.typeOid && came.typmod === left.typmod));
}

/** Whether Relation messages of both look the same although they mean other columns. */
export function looksLike(known: readonly SourceColumn[], now: readonly SourceColumn[]): boolean {
  const told = (columns: readonly SourceColumn[]) =>
    JSON.stringify(columns.map(({ name, typeOid, typmod }) => [name, typeOid, typmod]));
  const attnums = (columns: readonly SourceColumn[]) => JSON.stringify(columns.map(({ attnum }) => attnum));
  return told(known) === told(now) && attnums(known) !== attnums(now);
}

function quoted({ name }: SourceColumn): string {
  return JSON.stringify(name);
}
