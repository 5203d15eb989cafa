// Files that a crash left: found by age, and removed once it is sure that no manifest will ever list them. Refuses to touch
// what the manifest lists, what somebody may still list, what is older than the group, and what pg-flo did not name.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { removeRetired } from "../compact/retired.ts";
import { type Listable, readListable } from "../metadata/listable-files.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { inParallel } from "../storage/lanes.ts";
import { parseFilePath, tableFolder } from "../storage/paths.ts";
import type { Storage, StoredEntry, UnfinishedFile } from "../storage/storage.ts";

export interface OrphanSearch {
  readonly db: Queryable;
  readonly storage: Storage;
  readonly group: string;
  /** Younger ones are left alone: somebody may be writing them. */
  readonly olderThanMs: number;
}

export interface Orphan {
  readonly path: string;
  /** Null: unfinished, its size is not known. */
  readonly sizeBytes: number | null;
  readonly modifiedAt: Date;
  remove(): Promise<void>;
}

/** By default, and always for the workers' own sweeps. */
export const ORPHAN_AGE_MS = 24 * 3_600_000;
const SWEEP_INTERVAL_MS = 6 * 3_600_000;
/** So that workers that were started together do not sweep together. */
const FIRST_SWEEP_MS = 900_000;
/** Paths that the metadata database is asked about at once. */
const QUESTION_PATHS_MAX = 10_000;
const PARALLEL = 8;

/** Every orphan of the group. What it gives stays an orphan. */
export async function* findOrphans(search: OrphanSearch): AsyncGenerator<Orphan> {
  const { storage, group, olderThanMs } = search;
  const isOld = ({ modifiedAt }: { readonly modifiedAt: Date }) => Date.now() - modifiedAt.getTime() >= olderThanMs;
  let waiting: StoredEntry[] = [];
  for await (const entry of storage.list(group)) {
    if (!isOld(entry) || !parseFilePath(entry.path)) continue;
    waiting.push(entry);
    if (waiting.length < QUESTION_PATHS_MAX) continue;
    yield* orphansOf(search, waiting);
    waiting = [];
  }
  yield* orphansOf(search, waiting);
  for await (const file of storage.listUnfinished(group)) if (isOld(file)) yield unfinishedOrphan(storage, file);
}

/** Removes what `findOrphans` gave. Gives the number; the first failure ends it. */
export async function removeOrphans(orphans: readonly Orphan[]): Promise<number> {
  await inParallel(orphans, PARALLEL, (orphan) => orphan.remove());
  return orphans.length;
}

/** A worker's own sweeps, now and then, until the signal, and of files that left the manifest `graceMs` ago. One that fails is told and tried again at its next time. */
export async function sweepOrphans(
  search: Omit<OrphanSearch, "olderThanMs"> & { readonly graceMs: number },
  log: Log,
  signal: AbortSignal,
) {
  const { random } = systemClock;
  for (let waitMs = FIRST_SWEEP_MS * (0.5 + random()); ; waitMs = SWEEP_INTERVAL_MS * (0.5 + random())) {
    await systemClock.sleep(waitMs, signal).catch(() => {}); // an abort ends the loop
    if (signal.aborted) return;
    try {
      const orphans: Orphan[] = [];
      for await (const orphan of findOrphans({ ...search, olderThanMs: ORPHAN_AGE_MS })) orphans.push(orphan);
      const files = await removeOrphans(orphans);
      if (files > 0) log.info("removed files that a crash had left", { files });
      const retired = await removeRetired(search);
      if (retired > 0) log.info("removed files that others took the place of", { files: retired });
    } catch (error) {
      if (!(error instanceof PgFloError)) throw error;
      log.warn("files that a crash left could not be removed", errorFacts(error));
    }
  }
}

/** The metadata are asked after the storage listed the files: so what was committed meanwhile is seen. */
async function* orphansOf({ db, storage, group }: OrphanSearch, entries: readonly StoredEntry[]) {
  if (entries.length === 0) return;
  const listable = await readListable(
    db,
    group,
    entries.map(({ path }) => path),
  );
  if (!listable) throw new PgFloError("GROUP_MISSING", `group ${group}, not known to the metadata database, 0 rows`);
  const running = new Set(
    listable.runningRanges.map(({ schema, table, rangeNumber }) => rangeKey(tableFolder(schema, table), rangeNumber)),
  );
  for (const entry of entries) {
    if (isOrphan(entry, listable, running)) {
      yield { ...entry, remove: () => storage.remove(entry.path) } satisfies Orphan;
    }
  }
}

function isOrphan({ path, modifiedAt }: StoredEntry, listable: Listable, running: ReadonlySet<string>): boolean {
  const file = parseFilePath(path);
  if (!file || listable.listed.has(path) || modifiedAt < listable.groupCreatedAt) return false;
  if (file.kind === "compacted") return !listable.compactions.has(file.compaction);
  if (file.kind === "copy") return !running.has(rangeKey(file.folder, file.rangeNumber));
  // A stream that the metadata do not know may be about to be made.
  const epoch = listable.epochs.get(file.stream);
  return epoch !== undefined && file.epoch < epoch;
}

function rangeKey(folder: string, rangeNumber: number): string {
  return `${folder}/${rangeNumber}`;
}

function unfinishedOrphan(storage: Storage, file: UnfinishedFile): Orphan {
  const { path, modifiedAt } = file;
  return { path, modifiedAt, sizeBytes: null, remove: () => storage.removeUnfinished(file) };
}
