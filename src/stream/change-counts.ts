// How many changes the log told of each table: what went into consolidation, to be set against the rows that came out.
import type { StreamRelation } from "./stream-table.ts";
import { OPERATION_LEAVE, type TransactionStore } from "./transaction-store.ts";

/**
 * Tells the changes of the store by relation, and gives their number. Of a spilled transaction, an UPDATE that is told
 * to two parts is one change; what a TRUNCATE made void there was not read back and is not counted.
 */
export function countChanges(
  store: TransactionStore,
  count: (relation: StreamRelation, changes: number) => void,
): number {
  const { relations, relationIndexes, operations } = store;
  if (relations.length === 1 && store.sequences === null) {
    count(relations[0]!, store.count);
    return store.count;
  }
  const counts = new Int32Array(relations.length);
  for (let change = 0; change < store.count; change++) {
    if (operations[change] !== OPERATION_LEAVE) counts[relationIndexes[change]!]!++;
  }
  let sum = 0;
  for (const [index, changes] of counts.entries()) {
    if (changes > 0) count(relations[index]!, changes);
    sum += changes;
  }
  return sum;
}
