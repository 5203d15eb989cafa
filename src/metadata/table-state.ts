// The states of a mirrored table and the only moves between them. Pure: the SQL beside it moves a row only
// `where state = any(legalFrom(event))`, so the database holds what this file says, whoever races.
//
//   pending    set by registerTables and copyAgain. No cut, no ranges, no files of this generation: changes are dropped.
//   copying    set by the stream's owner with the cut. Changes from the cut on count; ranges are planned, or soon are.
//   streaming  set with the last range, or with the cut of a stream-only table. Copy and changes up to the stream's
//              position are durable.
//   copied     set with the last range of a copy-only table. The copy at its cut is durable; nothing follows.
//   error      set by whoever met the error, told in `error`. Nothing more of it becomes durable, its changes are
//              dropped: so it can only be copied again.
//   paused     set by `pg-flo pause`. Its files stay as they are, its changes are dropped: so it goes on by being copied
//              again, which `pg-flo resume` begins.
//   removed    set by registerTables when the config no longer names it. Its files stay; nothing is added.
import type { TableMode } from "../config/config.ts";

export const tableStates = ["pending", "copying", "streaming", "copied", "error", "paused", "removed"] as const;

export type TableState = (typeof tableStates)[number];

export type TableEvent =
  /** The consistent point from which its changes count is known. */
  | { readonly kind: "cutTaken"; readonly mode: TableMode }
  /** Every planned range is in the manifest (also when there was none to copy). */
  | { readonly kind: "rangesDone"; readonly mode: TableMode }
  | { readonly kind: "failed" }
  /** An operator wants nothing more of it for now. */
  | { readonly kind: "paused" }
  /** The end of a pause: it begins anew. */
  | { readonly kind: "resumed" }
  /** The config names it again after it had been removed: it begins anew. */
  | { readonly kind: "configuredAgain" }
  | { readonly kind: "unconfigured" }
  /** Everything of it leaves the manifest and it begins anew. */
  | { readonly kind: "copyAgain" };

type Moves = Readonly<Partial<Record<TableEvent["kind"], (event: TableEvent) => TableState>>>;

const afterCut = (event: TableEvent): TableState =>
  "mode" in event && event.mode === "stream-only" ? "streaming" : "copying";
const afterCopy = (event: TableEvent): TableState =>
  "mode" in event && event.mode === "copy-only" ? "copied" : "streaming";

const always: Moves = {
  failed: () => "error",
  unconfigured: () => "removed",
  copyAgain: () => "pending",
  paused: () => "paused",
};

const moves: Readonly<Record<TableState, Moves>> = {
  pending: { ...always, cutTaken: afterCut },
  copying: { ...always, rangesDone: afterCopy },
  streaming: always,
  copied: always,
  error: always, // `failed` again: the newer error is the one that is told
  // Neither an old failure nor a changed definition ends a pause.
  paused: { resumed: () => "pending", unconfigured: () => "removed" },
  removed: { configuredAgain: () => "pending" },
};

/** The state after the event, or null where the event may not happen in that state. */
export function next(state: TableState, event: TableEvent): TableState | null {
  return moves[state][event.kind]?.(event) ?? null;
}

/** The states in which an event of this kind may happen, for `where state = any(…)`. */
export function legalFrom(kind: TableEvent["kind"]): TableState[] {
  return tableStates.filter((state) => kind in moves[state]);
}

/** The states in which files of a table may become durable: it has a cut, and nobody stopped it. */
export const writableStates: readonly TableState[] = ["copying", "streaming"];
