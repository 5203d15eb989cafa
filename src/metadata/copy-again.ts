// A table begins anew: its ranges and all its files leave the manifest, its cut is taken back, its counters are zero, its
// error is cleared. Bound to the generation that the caller judged, so that two who meet the same change, at whatever
// moments, begin it anew once; and where its definition was read, that is stored in the same transaction, so that nobody
// gives it a cut with the old one, which would have it copied once more.
import { failpoint } from "../base/failpoints.ts";
import { type Queryable, transaction } from "./queryable.ts";
import { storeDefinitions, type WantedTable } from "./register-tables.ts";
import { beginAnew, lockTable, type Table, type TableKey } from "./tables.ts";

/**
 * `wanted`: the definition that the source has now; without it the table keeps the one that it has. Gives the paths of the
 * files, for the caller to delete; null when the table began anew meanwhile, or is removed or paused.
 */
export async function copyAgain(
  db: Queryable,
  group: string,
  table: TableKey,
  wanted?: WantedTable,
): Promise<string[] | null> {
  const paths = await beginAnewIf(db, group, table, wanted, () => true);
  failpoint("table.begun-anew");
  return paths;
}

/**
 * A failed table is tried again. Its changes were dropped meanwhile, so it can only be copied again: as `copyAgain`, but
 * only for a table in state `error`; null for any other.
 */
export async function clearTableError(
  db: Queryable,
  group: string,
  table: TableKey,
  wanted?: WantedTable,
): Promise<string[] | null> {
  return beginAnewIf(db, group, table, wanted, ({ state }) => state === "error");
}

async function beginAnewIf(
  db: Queryable,
  group: string,
  table: TableKey,
  wanted: WantedTable | undefined,
  condition: (table: Table) => boolean,
): Promise<string[] | null> {
  return transaction(db, async (transaction) => {
    const known = await lockTable(transaction, table);
    if (!known || !condition(known)) return null;
    const begun = await beginAnew(transaction, group, [known.tableId], "copyAgain");
    if (begun.tableIds.length === 0) return null;
    if (wanted) await storeDefinitions(transaction, [{ known, wanted }]);
    return begun.paths;
  });
}
