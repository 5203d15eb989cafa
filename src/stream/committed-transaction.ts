// A transaction that has committed, and which of its changes count: by each table's cut, without aborted subtransactions.
import type { Lsn } from "../base/lsn.ts";
import type { Arena } from "./arena.ts";
import type { SpilledTransaction } from "./spilled-transaction.ts";
import type { StreamRelation, TableCut } from "./stream-table.ts";
import { TransactionStore } from "./transaction-store.ts";

export interface CommitFacts {
  readonly commitLsn: Lsn;
  readonly xid: number;
  /** Microseconds since 2000-01-01. */
  readonly commitTimeUs: bigint;
}

/**
 * `store` has its changes, or those that are not in `spilled` yet. It lies in the reader's arena, or a large one in its
 * own. It is only good until `committed` returns, unless it is held, spilled or large: those must be taken before the
 * next message is parsed.
 */
export interface CommittedTransaction extends CommitFacts {
  readonly store: TransactionStore;
  /** Its receiver releases it. */
  readonly spilled: SpilledTransaction | null;
  /** Relations of `spilled` whose changes count here. */
  readonly relations: ReadonlySet<StreamRelation>;
}

const NO_RELATIONS: ReadonlySet<StreamRelation> = new Set();
const FIRST_HELD_CHANGES = 16;

/** All changes are in memory and count. */
export function inMemory(store: TransactionStore, facts: CommitFacts): CommittedTransaction {
  return { store, spilled: null, relations: NO_RELATIONS, ...facts };
}

/** Whether changes of a transaction that commits there count, or may. */
export function isCounted(cut: TableCut, commitLsn: Lsn): boolean {
  return cut === "awaited" || (cut !== "unknown" && commitLsn >= cut);
}

/**
 * Leaves in the store what counts, and gives what is to be held, copied to the arena of held changes; null for nothing.
 * `aborted`: subtransactions, null where there can be none.
 */
export function sortByCuts(
  store: TransactionStore,
  aborted: ReadonlySet<number> | null,
  commitLsn: Lsn,
  heldArena: Arena,
): TransactionStore | null {
  const cuts = store.relations.map(({ table }) => table.cut);
  const someAborted = aborted !== null && aborted.size > 0;
  const lives = (change: number) => !someAborted || !aborted.has(store.xids![change]! >>> 0);
  let held: TransactionStore | null = null;
  if (cuts.includes("awaited")) {
    held = new TransactionStore(heldArena, FIRST_HELD_CHANGES);
    for (let change = 0; change < store.count; change++) {
      if (cuts[store.relationIndexes[change]!] === "awaited" && lives(change)) held.copy(store, change);
    }
  }
  const counted = cuts.map((cut) => cut !== "awaited" && isCounted(cut, commitLsn));
  if (someAborted || counted.includes(false)) {
    store.retain((change) => counted[store.relationIndexes[change]!]! && lives(change));
  }
  return held !== null && held.count > 0 ? held : null;
}

/** The same for one that is spilled: relations that count, and those that are held. */
export function relationsByCuts(
  store: TransactionStore,
  spilled: SpilledTransaction,
  commitLsn: Lsn,
): { readonly counted: ReadonlySet<StreamRelation>; readonly held: ReadonlySet<StreamRelation> } {
  const relations = [...spilled.relations, ...store.relations];
  const held = new Set(relations.filter(({ table }) => table.cut === "awaited"));
  return {
    held,
    counted: new Set(relations.filter((each) => !held.has(each) && isCounted(each.table.cut, commitLsn))),
  };
}
