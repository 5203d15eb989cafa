// Which column of a Relation message is which of the table: the message has names and types in the order of attribute
// numbers, but no numbers. What is registered tells the names that each number had; the order does the rest. The log may
// be behind the newest definition, so columns can be missing that were added later, and others be there that are gone.
import type { SourceColumn } from "../postgres/catalog.ts";
import type { Relation } from "../postgres/relation.ts";

/** The parts of a table that this needs. */
export interface KnownColumns {
  /** Of the newest version. */
  readonly columns: readonly { readonly source: SourceColumn }[];
  /** Columns of every version that tuples of the log may still have, the newest among them. */
  readonly versions?: readonly (readonly SourceColumn[])[];
  /** Whether the config wants a column of this name. */
  readonly wants: (column: string) => boolean;
}

/** For each column of the newest version its place in the message, or -1: it was not there yet, or is not sent. */
export type Layout = { readonly projection: Int32Array } | { readonly mismatch: string };

export function layoutOf(message: Relation, table: KnownColumns): Layout {
  const newest = table.columns.map(({ source }) => source);
  const versions = table.versions ?? [newest];
  const kept = message.columns.flatMap((column, place) => {
    const known = versions.some((columns) => columns.some(({ name }) => name === column.name));
    return known || table.wants(column.name) ? [{ ...column, place }] : [];
  });
  const candidates = kept.map(({ name, typeOid, typmod }) => {
    const same = versions.flat().filter((c) => c.name === name && c.typeOid === typeOid && c.typmod === typmod);
    return [...new Set(same.map(({ attnum }) => attnum))];
  });
  const unknown = candidates.findIndex((attnums) => attnums.length === 0);
  if (unknown >= 0) {
    const name = kept[unknown]!.name;
    const typed = versions.some((columns) => columns.some((column) => column.name === name));
    return { mismatch: `column ${JSON.stringify(name)} ${typed ? "has another type" : "is new"}` };
  }
  // One version: names decide alone, whatever the order.
  const found = versions.length === 1 ? [candidates.map(([attnum]) => attnum!)] : ascending(candidates);
  const ways = found.map((attnums) => {
    const projection = newest.map(({ attnum }) => kept[attnums.indexOf(attnum)]?.place ?? -1);
    return { projection, gone: missingColumn(newest, versions, projection, attnums) };
  });
  if (ways.length === 0) return { mismatch: "its columns are in an order that none of its versions had" };
  const [first, ...others] = ways.filter(({ gone }) => !gone).map(({ projection }) => projection);
  if (!first) return { mismatch: `column ${JSON.stringify(ways[0]!.gone!.name)} is gone` };
  if (others.some((other) => other.some((place, k) => place !== first[k]))) {
    return { mismatch: "its columns can be told in more than one way" };
  }
  return { projection: Int32Array.from(first) };
}

/** A column that must be there and is not. One that was added later comes after all that are there. */
function missingColumn(
  newest: readonly SourceColumn[],
  versions: readonly (readonly SourceColumn[])[],
  projection: readonly number[],
  attnums: readonly number[],
): SourceColumn | undefined {
  const last = Math.max(0, ...attnums);
  return newest.find(({ attnum, generated }, k) => {
    // pgoutput leaves generated columns out on servers that cannot send them.
    if (projection[k]! >= 0 || generated !== "") return false;
    return attnum < last || versions.every((columns) => columns.some((column) => column.attnum === attnum));
  });
}

/** Ways to take one number for each that make them ascend; no more than two, which is one too many. */
function ascending(candidates: readonly (readonly number[])[]): number[][] {
  let ways: number[][] = [[]];
  for (const attnums of candidates) {
    ways = ways.flatMap((way) =>
      attnums.filter((attnum) => attnum > (way.at(-1) ?? 0)).map((attnum) => [...way, attnum]),
    );
    // Every further column at most doubles them: with so many there is no telling.
    if (ways.length > 64) return ways;
  }
  return ways;
}
