// What a worker does: its streams, the copy, and what goes on beside them. It ends with the worker, or with a failure
// after which all of it begins anew.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Wakeup } from "../base/wakeup.ts";
import type { Config } from "../config/config.ts";
import { slotName } from "../postgres/slot.ts";
import type { StreamProgress } from "../stream/stream-state.ts";
import { watchCapacity } from "./capacity.ts";
import { waitUntilCaughtUp } from "./caught-up.ts";
import { compactRegularly } from "./compact-service.ts";
import { type CopyFigures, CopyService } from "./copy-service.ts";
import { DefinitionWatch } from "./definition-watch.ts";
import type { Definitions } from "./definitions.ts";
import { DefinitionsService } from "./definitions-service.ts";
import { wantedStreams } from "./discovery.ts";
import type { HeldSnapshots } from "./held-snapshots.ts";
import { sweepOrphans } from "./orphans.ts";
import { type WorkerContext, writeMark } from "./preparation.ts";
import { settleAll } from "./settle.ts";
import type { StreamService } from "./stream-service.ts";
import { StreamsService } from "./streams-service.ts";
import { WalGuard } from "./wal-guard.ts";
import { type WalBudgets, watchWal } from "./wal-watch.ts";

const HEARTBEAT_MESSAGE_MS = 30_000;

/** What of a worker outlives its rounds. */
export interface Member {
  readonly workerId: string;
  readonly definitions: Definitions;
  /** Reads the config's file again. */
  readonly loadConfig?: (() => Config) | undefined;
  readonly snapshots: HeldSnapshots;
  readonly work: Wakeup;
  readonly copy: CopyFigures;
  readonly budgets: WalBudgets;
  readonly counted: Map<number, StreamProgress>;
  streams: () => readonly StreamService[];
}

/** Returns when the signal was aborted, or when all has caught up. */
export async function runRound(context: WorkerContext, member: Member, signal: AbortSignal): Promise<void> {
  const { config, db, storage, copiers, log, start, health } = context;
  const end = new AbortController();
  const { workerId, definitions, snapshots, work, counted, copy: figures, loadConfig } = member;
  const watch = new DefinitionsService({
    ...{ context, workerId, definitions, work, log },
    streams: () => member.streams(),
    ...(loadConfig && { loadConfig }),
  });
  const onTableChanged = () => watch.look();
  const shared = { config, db, storage, workerId, snapshots, work, definitions, log, onTableChanged };
  const streams = new StreamsService({ ...shared, counted });
  const guard = new WalGuard({ config, db, definitions, log, streams: () => member.streams() });
  const onLook = (budgets: WalBudgets) => guard.look(budgets);
  const copy = new CopyService({ ...shared, copiers, figures, waits: () => guard.throttled });
  member.streams = () => streams.services;
  const inner = AbortSignal.any([signal, end.signal]);
  const mark = () => writeMark(config);
  const changes = new DefinitionWatch({ definitions, db, log, streams: member.streams, mark, onTableChanged });
  const services = [
    streams.run(inner),
    copy.run(inner),
    keepLogMoving(config, member.streams, inner),
    watch.run(inner),
    changes.run(inner),
    watchWal(context, () => groupSlots(definitions.config, member.streams()), member.budgets, onLook, inner),
    watchCapacity(context, inner),
    compactRegularly(context, inner),
    ...(config.verify.everyMs === null ? [] : [verifies(context, inner)]),
    sweepOrphans({ db, storage, group: config.group, graceMs: config.compact.graceMs }, log, inner),
  ];
  if (start.mark !== null) {
    const goal = { db, group: config.group, mark: start.mark, timeline: start.timeline! };
    const caughtUp = async (): Promise<void> => {
      do await waitUntilCaughtUp(goal, member.streams, inner);
      while (!(await changes.settle(inner)));
    };
    services.push(caughtUp().then(() => end.abort()));
  }
  health.running = true;
  health.sessionCount++;
  try {
    await settleAll(services, end);
  } finally {
    health.running = false;
  }
}

/** Also those that other workers read: what the copy of this one does to them concerns it too. */
function groupSlots(config: Config, own: readonly StreamService[]): string[] {
  const wanted = wantedStreams(config).map((stream) => slotName(config.group, stream));
  return [...new Set([...wanted, ...own.map(({ slot }) => slot)])];
}

/** Loaded only where it is asked for. */
async function verifies(context: WorkerContext, signal: AbortSignal): Promise<void> {
  const { verifyRegularly } = await import("./verify-service.ts");
  await verifyRegularly(context, signal);
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
