// What the compacting process is given and what it tells.
import type { ErrorCode } from "../base/errors.ts";
import type { LogFacts } from "../base/log.ts";
import type { Config } from "../config/config.ts";

export interface CompactProcessOptions {
  readonly config: Config;
  readonly tableIds: readonly number[];
}

/** The work comes first. Its parent's end is as good as `stop`. */
export type ToCompactProcess =
  | { readonly kind: "work"; readonly options: CompactProcessOptions }
  | { readonly kind: "stop" };

export type FromCompactProcess =
  | {
      readonly kind: "log";
      readonly level: "debug" | "info" | "warn" | "error";
      readonly message: string;
      readonly facts?: LogFacts;
    }
  /** What ended it. */
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly description: string; readonly fix: string };
