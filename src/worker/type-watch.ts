// Looks from time to time whether types changed in a way that the log does not tell: a renamed label of an enum, another
// attribute of a composite. Whoever registers the tables then decides which of them are copied again.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { type PgType, readTypes } from "../postgres/catalog.ts";
import { equalParts, typeParts } from "../postgres/type-parts.ts";
import type { Discovery } from "./discovery.ts";
import { onSource } from "./source-connection.ts";

const LOOK_MS = 10_000;

/** Runs until the signal or until types are others than at the discovery. */
export async function watchTypes(
  { config, log }: { readonly config: Config; readonly log: Log },
  { selection }: Discovery,
  onTypesChanged: () => void,
  signal: AbortSignal,
): Promise<void> {
  const columns = selection.tables.flatMap(({ table }) => table.columns).filter((column) => column.typeParts);
  if (columns.length === 0) return;
  while (!signal.aborted) {
    await systemClock.sleep(LOOK_MS, signal).catch(() => {}); // an abort ends the loop
    const types = signal.aborted ? null : await typesNow(config);
    const changed =
      types &&
      columns.find(({ typeOid, typeParts: parts }) => !equalParts(typeParts(typeOid, types) ?? undefined, parts));
    if (!changed || signal.aborted) continue;
    log.info("a type changed, the definitions are read again", { type: changed.typeName });
    return onTypesChanged();
  }
}

/** Null when the source cannot be reached now: the stream tells that. */
async function typesNow(config: Config): Promise<ReadonlyMap<number, PgType> | null> {
  try {
    return await onSource(config, "types", readTypes);
  } catch (error) {
    if (error instanceof PgFloError && error.action === "retry") return null;
    throw error;
  }
}
