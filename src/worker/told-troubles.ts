// What stands in the way of reading the definitions while the streams go on, and a person must mend: a right that was
// revoked, a password that was changed. It is told once, however often it is tried again, and ends nothing.
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";

const TOLD_CODES: readonly string[] = ["PERMISSION_DENIED", "PREFLIGHT_FAILED", "AUTHENTICATION_FAILED"];

export interface ToldTroublesOptions {
  readonly group: string;
  readonly db: Queryable;
  readonly log: Log;
}

export class ToldTroubles {
  readonly #options: ToldTroublesOptions;
  #told = "";

  constructor(options: ToldTroublesOptions) {
    this.#options = options;
  }

  /** Throws what is no such trouble. */
  async tell(error: unknown): Promise<void> {
    if (!(error instanceof PgFloError) || !TOLD_CODES.includes(error.code)) throw error;
    if (this.#told === error.message) return;
    const { group, db, log } = this.#options;
    this.#told = error.message;
    log.error(`the definitions could not be brought in line: ${error.description}`, errorFacts(error));
    const event = { severity: "error", code: error.code, subject: `group ${group}` } as const;
    await addEvent(db, group, { ...event, message: error.message });
  }

  /** It went well: the next trouble is a new one. */
  clear(): void {
    this.#told = "";
  }
}
