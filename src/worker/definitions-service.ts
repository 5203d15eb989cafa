// Keeps a worker's definitions current while it streams and copies: looks every few seconds whether the source's catalog is
// another one, and every second whether an operator asked for something. What changed is registered, published and told
// to the streams; no connection of theirs is touched, and the tables that did not change notice nothing.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { runService } from "../base/service.ts";
import { Wakeup } from "../base/wakeup.ts";
import type { Config } from "../config/config.ts";
import { addEvent } from "../metadata/events.ts";
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
import { changedType } from "./type-watch.ts";

const REQUESTS_POLL_MS = 1000;
const ALTERED_PAUSE_MS = 1000;
/** What stands in the way of a refresh while the streams go on, and a person must mend. */
const TOLD_CODES: readonly string[] = ["PERMISSION_DENIED", "PREFLIGHT_FAILED", "AUTHENTICATION_FAILED"];

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
  #lookedAt = 0;
  #told = "";

  constructor(options: DefinitionsServiceOptions) {
    this.#options = options;
    const { context, workerId, definitions, loadConfig } = options;
    this.#wanted = !definitions.prepared.complete;
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
    return runService((inner) => this.#serve(inner), signal, { name: "definitions", log: this.#options.log });
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
      // Who alters a table often alters it again at once: the definitions are read when that is over.
      if (this.#wanted) await systemClock.sleep(ALTERED_PAUSE_MS, signal);
      if (this.#wanted || asked || (await this.#changed(source))) await this.#refreshOrTell();
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
    const { fingerprint, discovery } = definitions.prepared;
    try {
      const changed = await source.use(async (client) => {
        if ((await catalogFingerprint(client, Object.keys(config.schemas))) !== fingerprint) return "the tables";
        return changedType(discovery, () => readTypes(client));
      });
      if (changed !== null) log.info("the source's definitions changed, they are read again", { what: changed });
      return changed !== null || (await tablesToRetry(db, config.group)).length > 0;
    } catch (error) {
      throw toPgFloError(error, `look at the definitions of group ${config.group}`);
    }
  }

  async #refreshOrTell(): Promise<void> {
    try {
      await this.#refresh(this.#options.definitions.config);
    } catch (error) {
      if (!(error instanceof PgFloError) || !TOLD_CODES.includes(error.code)) throw error;
      await this.#tell(error);
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
    this.#told = "";
    if (!definitions.prepared.complete) this.#wanted = true;
    for (const { tableId, schema, name } of definitions.prepared.tables) {
      if (!before.has(tableId)) context.log.info("a table came", { table: `${schema}.${name}` });
    }
    for (const stream of streams()) await stream.changeTables();
    work.wake();
  }

  /** Once, however often it is tried again. */
  async #tell(error: PgFloError): Promise<void> {
    const { context, log } = this.#options;
    const { config, db } = context;
    this.#wanted = false; // again when something changes, or after the interval
    if (this.#told === error.message) return;
    this.#told = error.message;
    log.error(`the definitions could not be brought in line: ${error.description}`, errorFacts(error));
    const event = { severity: "error", code: error.code, subject: `group ${config.group}` } as const;
    await addEvent(db, config.group, { ...event, message: error.message });
  }
}
