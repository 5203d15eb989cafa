// Whether types changed in a way that the log does not tell: a renamed label of an enum, another attribute of a composite.
// Whoever registers the tables then decides which of them are copied again.
import type { PgType } from "../postgres/catalog.ts";
import { equalParts, typeParts } from "../postgres/type-parts.ts";
import type { Discovery } from "./discovery.ts";

/** The name of one that is another one than at the discovery, or null. Types are only read where some could be. */
export async function changedType(
  { selection }: Discovery,
  readTypes: () => Promise<ReadonlyMap<number, PgType>>,
): Promise<string | null> {
  const columns = selection.tables.flatMap(({ table }) => table.columns).filter((column) => column.typeParts);
  if (columns.length === 0) return null;
  const types = await readTypes();
  const changed = columns.find(
    ({ typeOid, typeParts: parts }) => !equalParts(typeParts(typeOid, types) ?? undefined, parts),
  );
  return changed?.typeName ?? null;
}
