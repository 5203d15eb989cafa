// The key-value metadata of a file that was made of others.
import type { Lsn } from "../base/lsn.ts";

export interface CompactedFacts {
  readonly kind: "copy" | "stream";
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
}

/** The newest of the others' values; at least one file. */
export function compactedKeyValues(
  files: readonly ReadonlyMap<string, string>[],
  { kind, lsnStart, lsnEnd }: CompactedFacts,
): Map<string, string> {
  const { geo, ...rest } = Object.fromEntries(files.at(-1)!);
  const shared = geo === undefined ? null : sharedGeometries(files.map((file) => file.get("geo")));
  return new Map([
    ...Object.entries(rest),
    ["pg_flo.kind", kind],
    ["pg_flo.lsn_start", String(lsnStart)],
    ["pg_flo.lsn_end", String(lsnEnd)],
    ...(shared === null ? [] : [["geo", shared] as const]),
  ]);
}

interface GeoParquet {
  readonly version: string;
  readonly columns: Readonly<Record<string, unknown>>;
}

/** A column is GeoParquet's where it is in every file: one may have curves that GeoParquet has not. Null: none is. */
function sharedGeometries(all: readonly (string | undefined)[]): string | null {
  const parsed = all.map((text) => (text === undefined ? null : (JSON.parse(text) as GeoParquet)));
  const newest = parsed.at(-1)!;
  const columns = Object.entries(newest.columns).filter(([name]) => parsed.every((geo) => geo && name in geo.columns));
  if (columns.length === 0) return null;
  return JSON.stringify({
    version: newest.version,
    primary_column: columns[0]![0],
    columns: Object.fromEntries(columns),
  });
}
