// Which files of a table are worth merging, and up to where its changes can be folded. Pure: it sees the manifest alone.
import type { Lsn } from "../base/lsn.ts";
import type { ManifestFile } from "../metadata/files.ts";

export interface MergeLimits {
  /** Files below it are small. */
  readonly smallBytes: number;
  /** About how large a merged file becomes. */
  readonly fileBytes: number;
  /** Fewer small files than this stay as they are, unless the merged one is no small file any more. */
  readonly filesMin: number;
}

/** Part of a whole file's size below which a file is small: a merged file is merged again only a few times. */
const SMALL_SHARE = 8;

export function mergeLimits(fileBytes: number, filesMin: number): MergeLimits {
  return { smallBytes: fileBytes / SMALL_SHARE, fileBytes, filesMin };
}

/**
 * Runs of files whose rows can stand in one file: one kind and schema version, and of stream files whole batches that
 * follow each other, so that no transaction is in two files of which only one was merged, and files stay in order.
 */
export function mergeRuns(files: readonly ManifestFile[], limits: MergeLimits): ManifestFile[][] {
  const copies = files.filter(({ kind }) => kind === "copy").sort((a, b) => a.fileId - b.fileId);
  const changes = files.filter((file) => file.kind === "stream" && !completesCopy(file)).sort(byLsn);
  const batches = [...Map.groupBy(changes, ({ batchId }) => batchId!)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, batch]) => batch);
  const versions = Map.groupBy(copies, ({ schemaVersion }) => schemaVersion).values();
  return [
    ...[...versions].flatMap((ofVersion) =>
      runsOf(
        ofVersion.filter(isSmall(limits)).map((file) => [file]),
        limits,
      ),
    ),
    ...runsOf(batches, limits),
  ];
}

/** Rows that were read again when a resumed copy was complete: their transaction is one that no commit record can have. */
function completesCopy({ kind, lsnStart, lsnEnd }: ManifestFile): boolean {
  return kind === "stream" && lsnStart === lsnEnd && lsnStart % 8n === 7n;
}

/** `units` are in order and not to be divided. */
function runsOf(units: readonly (readonly ManifestFile[])[], limits: MergeLimits): ManifestFile[][] {
  const runs: ManifestFile[][] = [];
  let run: ManifestFile[] = [];
  const close = () => {
    if (isWorthIt(run, limits)) runs.push(run);
    run = [];
  };
  for (const unit of units) {
    const mergeable = unit.every(isSmall(limits)) && new Set(unit.map((file) => file.schemaVersion)).size === 1;
    if (!mergeable || !follows(run.at(-1), unit[0]!) || bytesOf(run) + bytesOf(unit) > limits.fileBytes) close();
    if (mergeable) run.push(...unit);
  }
  close();
  return runs;
}

function follows(before: ManifestFile | undefined, file: ManifestFile): boolean {
  if (before === undefined) return true;
  return before.schemaVersion === file.schemaVersion && (file.kind === "copy" || before.lsnEnd < file.lsnStart);
}

function isSmall({ smallBytes }: MergeLimits): (file: ManifestFile) => boolean {
  return ({ sizeBytes }) => sizeBytes < smallBytes;
}

function isWorthIt(run: readonly ManifestFile[], { smallBytes, filesMin }: MergeLimits): boolean {
  return run.length >= 2 && (run.length >= filesMin || bytesOf(run) >= smallBytes);
}

export function bytesOf(files: readonly { readonly sizeBytes: number }[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function byLsn(a: ManifestFile, b: ManifestFile): number {
  if (a.lsnStart !== b.lsnStart) return a.lsnStart < b.lsnStart ? -1 : 1;
  return a.fileId - b.fileId;
}

export interface FoldPlan {
  /** The end of a batch: the last commit LSN whose changes go into the base. */
  readonly base: Lsn;
  /** The files that hold the state there. */
  readonly files: readonly ManifestFile[];
  /** Of these, stream files that also have later changes: they stay. */
  readonly spanning: readonly ManifestFile[];
}

/**
 * Up to where everything is older than `before` (by when it was listed, which is after its commit); null when there is
 * nothing to fold. Copies under several snapshots are right from the last one on and with what completes them, so a base
 * is never before that.
 */
export function foldPlan(files: readonly ManifestFile[], before: Date): FoldPlan | null {
  const copies = files.filter(({ kind }) => kind === "copy");
  const changes = files.filter(({ kind }) => kind === "stream").sort(byLsn);
  let base: Lsn | null = null;
  const batches = changes.filter((file) => !completesCopy(file));
  for (const [, batch] of [...Map.groupBy(batches, ({ batchId }) => batchId!)].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (batch.some(({ createdAt }) => createdAt >= before)) break;
    for (const { lsnEnd } of batch) if (base === null || lsnEnd > base) base = lsnEnd;
  }
  if (base === null || [...copies, ...changes.filter(completesCopy)].some(({ lsnEnd }) => lsnEnd > base)) return null;
  const counting = changes.filter(({ lsnStart }) => lsnStart <= base);
  return { base, files: [...copies, ...counting], spanning: counting.filter(({ lsnEnd }) => lsnEnd > base) };
}

/** Changes below this part of the copy's size are not worth writing the copy again. */
const FOLD_SHARE = 0.2;

/** Whether to fold now: the base is written again for it. What is twice as old as the history is folded anyway. */
export function foldIsDue({ files }: FoldPlan, now: Date, historyMs: number): boolean {
  const changes = files.filter(({ kind }) => kind === "stream");
  const copyBytes = bytesOf(files) - bytesOf(changes);
  if (bytesOf(changes) >= copyBytes * FOLD_SHARE) return true;
  return changes.some(({ createdAt }) => createdAt.getTime() < now.getTime() - 2 * historyMs);
}
