// Which streams a worker takes and which it hands over, so that all workers have their fair share. Pure: every worker
// decides for itself, and the claims themselves cannot race.
import type { ClaimSurvey } from "../metadata/stream-claims.ts";

export interface BalanceMoves {
  /** Free ones to claim; others may be quicker. */
  readonly take: readonly number[];
  /** To finish and to release, for workers that have less than their share. */
  readonly handOver: readonly number[];
}

/** `running`: the streams that this worker runs. */
export function balance(survey: ClaimSurvey, workerId: string, running: readonly number[]): BalanceMoves {
  const workerCount = new Set([...survey.workers, workerId]).size;
  const share = Math.ceil(survey.streams.length / workerCount);
  const idle = survey.streams.filter(({ stream }) => !running.includes(stream));
  // Kept while definitions were read again, or not given back for a failure: its lease would be renewed for ever.
  const kept = idle.filter(({ owner }) => owner === workerId);
  const free = idle.filter(({ owner, free }) => free && owner !== workerId);
  const room = Math.max(0, share - running.length - kept.length);
  return {
    take: [...kept, ...free.slice(0, room)].map(({ stream }) => stream),
    handOver: running.toSorted((a, b) => a - b).slice(share),
  };
}
