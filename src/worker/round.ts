// What a worker does with one state of the definitions: its streams, the copy, and what goes on beside them. It ends with
// the worker, or when definitions changed and must be read again.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Wakeup } from "../base/wakeup.ts";
import type { Config } from "../config/config.ts";
import type { StreamProgress } from "../stream/stream-state.ts";
import { watchCapacity } from "./capacity.ts";
import { waitUntilCaughtUp } from "./caught-up.ts";
import { compactRegularly } from "./compact-service.ts";
import { type CopyFigures, CopyService } from "./copy-service.ts";
import { binaryPossible } from "./discovery.ts";
import type { HeldSnapshots } from "./held-snapshots.ts";
import { sweepOrphans } from "./orphans.ts";
import { type Prepared, type WorkerContext, writeMark } from "./preparation.ts";
import { settleAll } from "./settle.ts";
import type { StreamService } from "./stream-service.ts";
import { StreamsService } from "./streams-service.ts";
import { watchTypes } from "./type-watch.ts";
import { type WalBudgets, watchWal } from "./wal-watch.ts";

const HEARTBEAT_MESSAGE_MS = 30_000;

/** What of a worker outlives its rounds. */
export interface Member {
  readonly workerId: string;
  readonly snapshots: HeldSnapshots;
  readonly work: Wakeup;
  readonly copy: CopyFigures;
  readonly budgets: WalBudgets;
  readonly counted: Map<number, StreamProgress>;
  streams: () => readonly StreamService[];
}

/** True: begin again with the definitions. False: the signal was aborted, or all has caught up. */
export async function runRound(
  context: WorkerContext,
  member: Member,
  { discovery, tables }: Prepared,
  signal: AbortSignal,
): Promise<boolean> {
  const { config, db, storage, log, start, health } = context;
  const end = new AbortController();
  let changed = false;
  const onTableChanged = (): void => {
    changed = true;
    end.abort();
  };
  const again = () => changed && !signal.aborted;
  const { workerId, snapshots, work, counted, copy: figures } = member;
  const shared = { config, db, storage, workerId, snapshots, work, types: discovery.types, log, onTableChanged };
  const streams = new StreamsService({
    ...shared,
    counted,
    tables,
    binary: binaryPossible(discovery),
    keepsLeases: again,
  });
  const copy = new CopyService({ ...shared, figures });
  member.streams = () => streams.services;
  const inner = AbortSignal.any([signal, end.signal]);
  const services = [
    streams.run(inner),
    copy.run(inner),
    keepLogMoving(config, member.streams, inner),
    watchTypes(context, discovery, onTableChanged, inner),
    watchWal(context, () => member.streams().map(({ slot }) => slot), member.budgets, inner),
    watchCapacity(context, inner),
    compactRegularly(context, inner),
    sweepOrphans({ db, storage, group: config.group, graceMs: config.compact.graceMs }, log, inner),
  ];
  if (start.mark !== null) {
    const goal = { db, group: config.group, mark: start.mark, timeline: start.timeline! };
    services.push(waitUntilCaughtUp(goal, member.streams, inner).then(() => end.abort()));
  }
  health.running = true;
  health.sessionCount++;
  try {
    await settleAll(services, end);
  } finally {
    health.running = false;
  }
  return again();
}

/** An idle database writes nothing that would move the positions: a message of our own does, when nothing else did. */
async function keepLogMoving(
  config: Config,
  streams: () => readonly StreamService[],
  signal: AbortSignal,
): Promise<void> {
  const reachedBefore = new Map<number, Lsn>();
  while (!signal.aborted) {
    await systemClock.sleep(HEARTBEAT_MESSAGE_MS, signal).catch(() => {}); // an abort ends the loop
    const reached = streams().flatMap(({ stream, progress }) => (progress ? [{ stream, at: progress.reached }] : []));
    if (!signal.aborted && reached.some(({ stream, at }) => reachedBefore.get(stream) === at)) {
      await writeMark(config).catch((error: unknown) => {
        if (!(error instanceof PgFloError) || error.action !== "retry") throw error;
      });
    }
    for (const { stream, at } of reached) reachedBefore.set(stream, at);
  }
}
