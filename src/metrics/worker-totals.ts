// What one process has done in all its sessions: a session's own figures begin at 0, a counter must not.
import type { SizeHistogram } from "../base/size-histogram.ts";
import type { StreamProgress } from "../stream/stream-state.ts";
import type { WorkerFigures } from "../worker/worker-figures.ts";

const streamCounters = [
  "transactionCount",
  "changeCount",
  "rowCount",
  "batchCount",
  "fileCount",
  "fileBytes",
  "receivedBytes",
  "spilledTransactionCount",
  "spilledBytes",
] as const satisfies readonly (keyof StreamProgress)[];
const streamHistograms = [
  "transactionChanges",
  "batchRows",
  "batchBytes",
  "batchMs",
] as const satisfies readonly (keyof StreamProgress)[];
const copyCounters = ["rowCount", "sizeBytes", "rangesDone"] as const;

export type StreamTotals = Readonly<Record<(typeof streamCounters)[number], number>> &
  Readonly<Record<(typeof streamHistograms)[number], SizeHistogram>>;
export type CopyTotals = Readonly<Record<(typeof copyCounters)[number], number>>;

export class WorkerTotals {
  #current: WorkerFigures | null = null;
  #copy: CopyTotals = { rowCount: 0, sizeBytes: 0, rangesDone: 0 };
  readonly #streams = new Map<number, StreamTotals>();

  /** A session begins, and the one before has ended: its figures do not change any more. */
  begin(figures: WorkerFigures): void {
    this.#copy = this.copy();
    for (const [stream, totals] of this.streams()) this.#streams.set(stream, totals);
    this.#current = figures;
  }

  /** Of the session that runs, or ran last. */
  get current(): WorkerFigures | null {
    return this.#current;
  }

  copy(): CopyTotals {
    const current = this.#current?.copy;
    return current ? sumOf(copyCounters, this.#copy, current) : this.#copy;
  }

  /** By number of the stream, those included that this worker read before. */
  streams(): Map<number, StreamTotals> {
    const totals = new Map(this.#streams);
    for (const [stream, progress] of this.#current?.counted ?? []) {
      const before = totals.get(stream);
      totals.set(stream, before ? added(before, progress) : progress);
    }
    return totals;
  }
}

/** The streams that a worker reads now, by number. */
export function streamsOf(figures: WorkerFigures | null): Map<number, StreamProgress> {
  return new Map((figures?.streams ?? []).flatMap(({ stream, progress }) => (progress ? [[stream, progress]] : [])));
}

function added(before: StreamTotals, progress: StreamProgress): StreamTotals {
  const histograms = streamHistograms.map((name) => [name, addedSizes(before[name], progress[name])]);
  return { ...sumOf(streamCounters, before, progress), ...Object.fromEntries(histograms) } as StreamTotals;
}

function sumOf<Name extends string>(
  names: readonly Name[],
  left: Readonly<Record<Name, number>>,
  right: Readonly<Record<Name, number>>,
): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, left[name] + right[name]])) as Record<Name, number>;
}

function addedSizes(left: SizeHistogram, right: SizeHistogram): SizeHistogram {
  return {
    bounds: left.bounds,
    counts: left.counts.map((count, index) => count + right.counts[index]!),
    sum: left.sum + right.sum,
  };
}
