// What the compacting thread is given and what it tells.
import type { ErrorCode } from "../base/errors.ts";
import type { LogFacts } from "../base/log.ts";
import type { Config } from "../config/config.ts";

export interface CompactThreadOptions {
  readonly config: Config;
  readonly tableIds: readonly number[];
}

export type FromCompactThread =
  | {
      readonly kind: "log";
      readonly level: "debug" | "info" | "warn" | "error";
      readonly message: string;
      readonly facts?: LogFacts;
    }
  /** What ended it. */
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly description: string; readonly fix: string };
