// The streams that this worker runs: takes those that nobody owns up to its fair share, hands over what is more, and
// stands by for the rest. A stream that another worker took over is no error: this worker waits for its turn again.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { errorFacts, type Log } from "../base/log.ts";
import type { Wakeup } from "../base/wakeup.ts";
import type { Config } from "../config/config.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { type ClaimSurvey, surveyClaims } from "../metadata/stream-claims.ts";
import { claimStream, releaseStream, type Stream, type StreamFence } from "../metadata/streams.ts";
import { readSlot, slotLostError, slotLostReason } from "../postgres/slot.ts";
import type { Storage } from "../storage/storage.ts";
import type { StreamProgress } from "../stream/stream-state.ts";
import { CutService } from "./cut-service.ts";
import type { Definitions } from "./definitions.ts";
import type { HeldSnapshots } from "./held-snapshots.ts";
import { tellTakeover } from "./membership.ts";
import { settleAll } from "./settle.ts";
import { onSource } from "./source-connection.ts";
import { balance } from "./stream-balance.ts";
import { StreamService } from "./stream-service.ts";
import { createStreamSlot } from "./stream-slot.ts";

const POLL_MS = 500;

export interface StreamsServiceOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly workerId: string;
  readonly definitions: Definitions;
  readonly snapshots: HeldSnapshots;
  readonly work: Wakeup;
  readonly counted: Map<number, StreamProgress>;
  readonly log: Log;
  /** A table's definition changed: it must be discovered again. */
  readonly onTableChanged: () => void;
}

interface RunningStream {
  readonly service: StreamService;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

export class StreamsService {
  readonly #options: StreamsServiceOptions;
  readonly #running = new Map<number, RunningStream>();
  readonly #end = new AbortController();
  #failure: unknown = null;
  #standingBy = false;

  constructor(options: StreamsServiceOptions) {
    this.#options = options;
  }

  /** Of the streams that this worker has now (or had at its end), by number. */
  get services(): StreamService[] {
    return [...this.#running.values()].map(({ service }) => service).sort((a, b) => a.stream - b.stream);
  }

  /** Runs until the signal; rejects with what ended a stream for good. */
  async run(signal: AbortSignal): Promise<void> {
    const inner = AbortSignal.any([signal, this.#end.signal]);
    try {
      while (!inner.aborted) {
        const survey = await this.#survey();
        if (survey) await this.#move(survey, inner);
        await systemClock.sleep(POLL_MS, inner).catch(() => {}); // an abort ends the loop
      }
    } finally {
      await Promise.all([...this.#running.values()].map(({ ended }) => ended));
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /** Null while the metadata database is away: the streams go on without it as long as they can. */
  async #survey(): Promise<ClaimSurvey | null> {
    const { config, db, log } = this.#options;
    try {
      return await surveyClaims(db, config.group, config.leaseMs);
    } catch (error) {
      if (!(error instanceof PgFloError) || error.action !== "retry") throw error;
      log.warn("the owners of the streams could not be read, trying again", errorFacts(error));
      return null;
    }
  }

  async #move(survey: ClaimSurvey, signal: AbortSignal): Promise<void> {
    const { config, db, workerId, log } = this.#options;
    for (const { stream, owner } of survey.streams) {
      const running = this.#running.get(stream);
      // It will learn of it anyway, by the first thing that it wants to store.
      if (running && owner !== workerId) running.stop.abort();
    }
    const moves = balance(survey, workerId, [...this.#running.keys()]);
    for (const stream of moves.handOver) {
      log.info("handing a stream over to another worker", { stream });
      this.#running.get(stream)?.stop.abort();
    }
    for (const stream of moves.take) {
      if (signal.aborted) return;
      const before = survey.streams.find((one) => one.stream === stream)?.owner ?? null;
      const claim = await claimStream(db, { group: config.group, stream, workerId, leaseMs: config.leaseMs });
      if (!claim.taken) continue;
      failpoint("stream.claimed");
      if (before !== null && before !== workerId) await tellTakeover({ db, group: config.group, log }, claim.stream);
      this.#start(claim.stream, claim.fence, signal);
    }
    const standsBy = this.#running.size === 0;
    if (standsBy && !this.#standingBy) log.info("standing by: every stream has a worker");
    this.#standingBy = standsBy;
  }

  #start(stream: Stream, fence: StreamFence, signal: AbortSignal): void {
    const stop = new AbortController();
    const service = new StreamService({ ...this.#options, stream: stream.stream });
    const ended = this.#runStream(stream, fence, service, stop, signal);
    this.#running.set(stream.stream, { service, stop, ended });
  }

  /** Never rejects: what ends all is kept as the failure. */
  async #runStream(
    stream: Stream,
    fence: StreamFence,
    service: StreamService,
    stop: AbortController,
    roundEnds: AbortSignal,
  ): Promise<void> {
    const { log } = this.#options;
    const signal = AbortSignal.any([roundEnds, stop.signal]);
    try {
      if (stream.state === "lost") await this.#refuseLost(stream);
      if (stream.state === "creating") {
        const { config, prepared } = this.#options.definitions;
        const creation = { ...this.#options, config, tables: prepared.tables };
        await createStreamSlot(creation, stream.slotName, fence, signal);
      }
      const cuts = new CutService({ ...this.#options, stream: service });
      await settleAll([service.run(signal), cuts.run(signal)], stop);
    } catch (error) {
      if (error instanceof PgFloError && error.code === "STREAM_TAKEN") log.warn("standing by", errorFacts(error));
      else if (!signal.aborted || !isAbortReason(error, signal)) this.#fail(error);
    }
    await this.#release(service.fence ?? fence);
    // With the worker's end its figures stay, for whoever tells the outcome.
    if (!roundEnds.aborted) this.#running.delete(stream.stream);
  }

  async #refuseLost({ slotName, position }: Stream): Promise<void> {
    const slot = await onSource(this.#options.config, "read the slot", (source) => readSlot(source, slotName));
    throw slotLostError(slotName, slotLostReason(slot, position!) ?? "wal_removed");
  }

  /** A lease that cannot be given back runs out by itself. */
  async #release(fence: StreamFence): Promise<void> {
    const { db, log } = this.#options;
    try {
      await releaseStream(db, fence);
    } catch (error) {
      log.warn("a stream could not be released, its lease runs out", errorFacts(error));
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#end.abort();
  }
}

function isAbortReason(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && error.name === "AbortError");
}
