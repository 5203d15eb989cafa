// The snapshots that this worker holds: those of its own slots, and those that other workers let it have. Each is
// exported again under a name of our own and registered, so that it outlives whoever made it. It holds what is left to
// copy needs, and nothing longer: a held snapshot keeps vacuum from cleaning at the source.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { type CopyNeed, forgetSnapshot, readCopyNeeds, registerSnapshot } from "../metadata/snapshots.ts";
import { type HeldSnapshot, importSnapshot } from "./snapshot.ts";

interface Holding {
  readonly snapshot: HeldSnapshot;
  /** Just made: no table is known to need it yet. */
  fresh: boolean;
}

export interface CopyWork {
  readonly needs: readonly CopyNeed[];
  /** Needed, and no worker that lives has them. */
  readonly lost: ReadonlySet<Lsn>;
}

export interface HeldSnapshotsOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly workerId: string;
  readonly log: Log;
}

export class HeldSnapshots implements AsyncDisposable {
  readonly #options: HeldSnapshotsOptions;
  readonly #held = new Map<Lsn, Holding>();
  /** Names that turned out to be of no use: they stay so. */
  readonly #gone = new Set<string>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: HeldSnapshotsOptions) {
    this.#options = options;
  }

  get lsns(): Lsn[] {
    return [...this.#held.keys()];
  }

  /** Under which it can be imported; undefined when it is not held. */
  name(snapshot: Lsn): string | undefined {
    return this.#held.get(snapshot)?.snapshot.name;
  }

  /** Takes over a snapshot that was just made. It is held until `settled`, whether tables need it or not. */
  add(snapshot: HeldSnapshot): Promise<void> {
    return this.#alone(async () => {
      const before = this.#held.get(snapshot.lsn);
      if (before) {
        before.fresh = true;
        await snapshot[Symbol.asyncDispose](); // of the same LSN: it sees the same
        return;
      }
      this.#held.set(snapshot.lsn, { snapshot, fresh: true });
      await this.#register(snapshot);
    });
  }

  /** Its tables are stored, or it was made for nothing. */
  settled(snapshot: Lsn): void {
    const holding = this.#held.get(snapshot);
    if (holding) holding.fresh = false;
  }

  /** Reads what is left to copy, takes the snapshots that it needs from other workers, and lets go of the others. */
  refresh(): Promise<CopyWork> {
    return this.#alone(async () => {
      const { db, config } = this.#options;
      const needs = await readCopyNeeds(db, config.group);
      const needed = new Set(needs.flatMap(({ snapshot }) => (snapshot === null ? [] : [snapshot])));
      for (const [snapshot, { fresh }] of this.#held) {
        if (!fresh && !needed.has(snapshot)) await this.#drop(snapshot);
      }
      const lost = new Set<Lsn>();
      for (const { snapshot, names } of needs) {
        if (snapshot === null || this.#held.has(snapshot) || lost.has(snapshot)) continue;
        if (!(await this.#import(snapshot, names))) lost.add(snapshot);
      }
      return { needs, lost };
    });
  }

  /** After a failure: what the source took away is no longer held. */
  check(): Promise<void> {
    return this.#alone(async () => {
      for (const [lsn, { snapshot }] of this.#held) if (!(await snapshot.alive())) await this.#drop(lsn);
    });
  }

  async #import(snapshot: Lsn, names: CopyNeed["names"]): Promise<boolean> {
    const { config, log, workerId } = this.#options;
    for (const { name, workerId: holder } of names) {
      if (holder === workerId || this.#gone.has(`${holder} ${name}`)) continue;
      try {
        const imported = await importSnapshot(config, name, snapshot);
        this.#held.set(snapshot, { snapshot: imported, fresh: false });
        failpoint("snapshot.imported");
        await this.#register(imported);
        log.info("took over a snapshot of another worker", { snapshot: formatLsn(snapshot) });
        return true;
      } catch (error) {
        if (!(error instanceof PgFloError) || error.code !== "SNAPSHOT_LOST") throw error;
        this.#gone.add(`${holder} ${name}`);
      }
    }
    return false;
  }

  async #register({ lsn, name }: HeldSnapshot): Promise<void> {
    const { config, db, workerId } = this.#options;
    await registerSnapshot(db, { group: config.group, workerId, lsn, name });
    failpoint("snapshot.registered");
  }

  async #drop(lsn: Lsn): Promise<void> {
    const { db, workerId } = this.#options;
    const { snapshot } = this.#held.get(lsn)!;
    this.#held.delete(lsn);
    await snapshot[Symbol.asyncDispose]();
    await forgetSnapshot(db, workerId, lsn);
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work, work);
    this.#turn = mine;
    return mine;
  }

  /** Their rows go with the worker's. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turn.catch(() => {}); // told to who asked
    for (const { snapshot } of this.#held.values()) {
      try {
        await snapshot[Symbol.asyncDispose]();
      } catch (error) {
        this.#options.log.warn("let go of a snapshot", errorFacts(error));
      }
    }
    this.#held.clear();
  }
}
