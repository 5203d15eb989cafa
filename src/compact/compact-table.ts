// One table's files: claimed, folded if that is due, merged, given back. Whatever ends it in between leaves files that no
// manifest lists, and the table as it was.
import type { Compression } from "../base/compression.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import type { StorageConfig } from "../base/storage-config.ts";
import {
  type Compaction,
  claimCompaction,
  type Exchange,
  exchangeFiles,
  metadataNow,
  releaseCompaction,
  renewCompaction,
} from "../metadata/compactions.ts";
import type { ManifestFile } from "../metadata/files.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { type Manifest, type ManifestTable, readManifest } from "../metadata/status.ts";
import { baseFilePath, mergedFilePath } from "../storage/paths.ts";
import type { Storage } from "../storage/storage.ts";
import { foldTable } from "./fold-table.ts";
import { mergeRun } from "./merge-run.ts";
import { bytesOf, foldIsDue, foldPlan, mergeLimits, mergeRuns } from "./plan.ts";

export interface CompactOptions {
  readonly db: Queryable;
  readonly storage: Storage;
  readonly storageConfig: StorageConfig;
  readonly group: string;
  readonly leaseMs: number;
  /** About how large a file becomes. */
  readonly fileBytes: number;
  readonly compression: Compression;
  /** Fewer small files than this are left until there are more. */
  readonly filesMin: number;
  /** Null: changes are kept for ever. */
  readonly historyMs: number | null;
  /** Fold whatever is older than the history, however little. */
  readonly foldAll: boolean;
  readonly temporaryFolder: string;
  readonly log: Log;
}

export interface FileFigures {
  readonly count: number;
  readonly sizeBytes: number;
}

export interface TableCompaction {
  readonly schema: string;
  readonly name: string;
  readonly before: FileFigures;
  readonly after: FileFigures;
  /** Files that others took the place of. */
  readonly mergedFiles: number;
  /** Up to where changes were folded; null: not at all. */
  readonly base: Lsn | null;
}

/** Compacts one table. Undefined: somebody else does, or its copy is not whole. */
export async function compactTable(
  options: CompactOptions,
  tableId: number,
  signal: AbortSignal,
): Promise<TableCompaction | undefined> {
  const { db, group, leaseMs } = options;
  const compaction = await claimCompaction(db, { group, tableId, leaseMs });
  if (!compaction) return undefined;
  failpoint("compact.claimed");
  const lost = new AbortController();
  const renewal = setInterval(() => {
    void renewCompaction(db, compaction, leaseMs).then(
      (held) => held || lost.abort(claimLost(options, compaction)),
      () => {}, // the next one, or the exchange, tells
    );
  }, leaseMs / 4);
  try {
    return await compactClaimed(options, compaction, AbortSignal.any([signal, lost.signal]));
  } finally {
    clearInterval(renewal);
    // What failed is tried again at its next time, not at once.
    await releaseCompaction(db, compaction, !signal.aborted);
  }
}

function claimLost({ group }: CompactOptions, { id }: Compaction): PgFloError {
  return new PgFloError("LEASE_LOST", `compaction ${id} of group ${group}, lease, another process took the table`);
}

async function compactClaimed(
  options: CompactOptions,
  compaction: Compaction,
  signal: AbortSignal,
): Promise<TableCompaction | undefined> {
  const numbers = { next: 1 };
  const work = { options, compaction, signal, nextNumber: () => numbers.next++ };
  const manifest = await readManifest(options.db, options.group, compaction.tableId);
  const [entry] = manifest.tables;
  if (!entry) return undefined;
  const base = await fold(work, manifest, entry);
  const mergedFiles = await merge(work);
  const [after] = (await readManifest(options.db, options.group, compaction.tableId)).tables;
  const { schema, name } = entry.table;
  return { schema, name, before: figures(entry.files), after: figures(after?.files ?? []), mergedFiles, base };
}

interface Work {
  readonly options: CompactOptions;
  readonly compaction: Compaction;
  readonly signal: AbortSignal;
  /** Of the next file. */
  readonly nextNumber: () => number;
}

function figures(files: readonly ManifestFile[]): FileFigures {
  return { count: files.length, sizeBytes: bytesOf(files) };
}

/** What would be folded now. Changes may stand at the end of the history for a while: the base is written again for them. */
export async function dueFold(options: Pick<CompactOptions, "db" | "historyMs" | "foldAll">, entry: ManifestTable) {
  const { historyMs } = options;
  if (historyMs === null || entry.table.state !== "streaming") return null;
  const now = await metadataNow(options.db);
  const plan = foldPlan(entry.files, new Date(now.getTime() - historyMs));
  return plan && (options.foldAll || foldIsDue(plan, now, historyMs)) ? plan : null;
}

async function fold(work: Work, manifest: Manifest, entry: ManifestTable): Promise<Lsn | null> {
  const { options, compaction, signal } = work;
  const plan = await dueFold(options, entry);
  if (plan === null) return null;
  const { schema, name } = entry.table;
  const pathOf = () => baseFilePath(options.group, schema, name, compaction.id, work.nextNumber());
  const folded = await foldTable({ ...options, manifest, entry, plan, pathOf, signal });
  if (folded === null) {
    options.log.warn("the table keeps its whole history: it has a column named file_index or file_row_number", {
      table: `${schema}.${name}`,
    });
    return null;
  }
  const { removed, added, base, kept } = folded;
  if (!(await exchange(work, { compaction, removed, added, fold: { base, kept } }))) return null;
  options.log.info("changes are folded into the copy", {
    table: `${schema}.${name}`,
    upTo: formatLsn(base),
    files: removed.length,
    newFiles: added.length,
    keptFiles: kept.length,
  });
  return base;
}

/** Gives the number of files that were merged. */
async function merge(work: Work): Promise<number> {
  const { options, compaction, signal } = work;
  const { storage, compression } = options;
  const [entry] = (await readManifest(options.db, options.group, compaction.tableId)).tables;
  const limits = mergeLimits(options.fileBytes, options.filesMin);
  let mergedFiles = 0;
  for (const run of mergeRuns(entry?.files ?? [], limits)) {
    const pathOf = ({ path }: ManifestFile) => mergedFilePath(path, compaction.id, work.nextNumber());
    for await (const { removed, added } of mergeRun({ storage, compression, run, pathOf, signal })) {
      if (!(await exchange(work, { compaction, removed, added }))) return mergedFiles;
      mergedFiles += removed.length;
      options.log.debug("files are merged", { path: added[0].path, files: removed.length });
    }
  }
  return mergedFiles;
}

/** False: the table is another one now, so nothing more is to be done. */
async function exchange({ options, signal }: Work, exchange: Exchange): Promise<boolean> {
  signal.throwIfAborted();
  if ((await exchangeFiles(options.db, exchange)) === "exchanged") {
    failpoint("compact.after-commit");
    return true;
  }
  for (const { path } of exchange.added) await options.storage.remove(path);
  return false;
}
