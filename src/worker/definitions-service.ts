// Keeps a worker's definitions current while it streams and copies: looks every few seconds whether the source's catalog is
// another one, and every second whether an operator asked for something. What changed is registered, published and told
// to the streams; no connection of theirs is touched, and the tables that did not change notice nothing.
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { runService } from "../base/service.ts";
import { Wakeup } from "../base/wakeup.ts";
import type { Config } from "../config/config.ts";
import { readRequests } from "../metadata/requests.ts";
import { tablesToRetry } from "../metadata/tables.ts";
import { readTypes } from "../postgres/catalog.ts";
import { catalogFingerprint } from "../postgres/catalog-fingerprint.ts";
import { applicationName } from "../postgres/connect.ts";
import { KeptConnection } from "../postgres/kept-connection.ts";
import { toPgFloError } from "../postgres/pg-error.ts";
import type { Definitions } from "./definitions.ts";
import { type RefreshOptions, refresh, type WorkerContext } from "./preparation.ts";
import { Reloads } from "./reload.ts";
import type { StreamService } from "./stream-service.ts";
import { ToldTroubles } from "./told-troubles.ts";
import { changedType } from "./type-watch.ts";

const REQUESTS_POLL_MS = 1000;
const ALTERED_PAUSE_MS = 1000;

export interface DefinitionsServiceOptions {
  readonly context: WorkerContext;
  readonly workerId: string;
  readonly definitions: Definitions;
  readonly streams: () => readonly StreamService[];
  /** Woken when there may be something to copy. */
  readonly work: Wakeup;
  /** Reads the config's file again. */
  readonly loadConfig?: () => Config;
  readonly log: Log;
}

export class DefinitionsService {
  readonly #options: DefinitionsServiceOptions;
  readonly #wakeup = new Wakeup();
  readonly #reloads: Reloads;
  #wanted: boolean;
  /** A trouble was told: whatever the catalog says, the definitions are read at the next interval. */
  #due = false;
  #lookedAt = 0;
  readonly #troubles: ToldTroubles;

  constructor(options: DefinitionsServiceOptions) {
    this.#options = options;
    const { context, workerId, definitions, loadConfig } = options;
    this.#wanted = !definitions.prepared.complete;
    this.#troubles = new ToldTroubles({ ...context, group: context.config.group });
    this.#reloads = new Reloads({
      ...{ context, workerId, definitions, loadConfig },
      refresh: (config, how) => this.#refresh(config, how),
    });
  }

  /** Something is not as it was read: it is read again after a moment. */
  look(): void {
    this.#wanted = true;
    this.#wakeup.wake();
  }

  /** Runs until the signal. */
  run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    return runService((inner) => this.#serve(inner), signal, { name: "definitions", log, nothingToFinish: true });
  }

  async #serve(signal: AbortSignal): Promise<void> {
    const { context, definitions } = this.#options;
    const { config, db } = context;
    await using source = new KeptConnection(config.source, {
      applicationName: applicationName(config.group, "definitions"),
    });
    while (!signal.aborted) {
      const seen = this.#wakeup.count;
      const requests = await readRequests(db, config.group);
      await this.#reloads.answer(requests.reloads);
      const asked = requests.requests !== definitions.prepared.requests.requests;
      try {
        const changed = this.#wanted || (await this.#changed(source));
        // Who alters a table often alters it again at once: the definitions are read when that is over.
        if (changed) await systemClock.sleep(ALTERED_PAUSE_MS, signal);
        if (changed || asked) await this.#refresh(definitions.config);
      } catch (error) {
        await this.#troubles.tell(error);
        this.#due = true;
        this.#wanted = false;
      }
      await this.#wakeup.wait(REQUESTS_POLL_MS, signal, seen);
    }
  }

  /** Whether the source, or a failed table, must be looked at; asked every `discovery_interval`. */
  async #changed(source: KeptConnection): Promise<boolean> {
    const { context, definitions, log } = this.#options;
    const { db } = context;
    const { config } = definitions;
    if (systemClock.now() - this.#lookedAt < config.discoveryIntervalMs) return false;
    this.#lookedAt = systemClock.now();
    if (this.#due) return true;
    const { fingerprint, discovery } = definitions.prepared;
    try {
      const changed = await source.use(async (client) => {
        if ((await catalogFingerprint(client, Object.keys(config.schemas))) !== fingerprint) return "the tables";
        return changedType(discovery, () => readTypes(client));
      });
      if (changed !== null) log.info("the source's definitions changed, they are read again", { what: changed });
      return changed !== null || (await tablesToRetry(db, config.group)).length > 0;
    } catch (error) {
      throw toPgFloError(error, `read the catalog for group ${config.group}`); // as a refresh has it: told once
    }
  }

  async #refresh(config: Config, how: RefreshOptions = {}): Promise<void> {
    const { context, definitions, streams, work } = this.#options;
    const before = new Set(definitions.prepared.tables.map(({ tableId }) => tableId));
    this.#wanted = false; // what is asked for from here on comes after this one
    this.#lookedAt = systemClock.now();
    try {
      definitions.replace(config, await refresh({ ...context, config }, how));
    } catch (error) {
      this.#wanted = true;
      throw error;
    }
    this.#troubles.clear();
    this.#due = false;
    if (!definitions.prepared.complete) this.#wanted = true;
    for (const { tableId, schema, name } of definitions.prepared.tables) {
      if (!before.has(tableId)) context.log.info("a table came", { table: `${schema}.${name}` });
    }
    for (const stream of streams()) await stream.changeTables();
    work.wake();
  }
}
