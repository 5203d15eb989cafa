// The rule of docs/files.md ("the state of a table at a position") in its plainest form: transaction after transaction,
// over a map. Slower than the views of `query`, and made apart from them, so that each can prove the other.

/** One row of a stream file of a table whose rows have an identity. Identities and rows are texts. */
export interface ReplayedChange {
  readonly lsn: bigint;
  readonly operation: string; // INSERT, UPDATE, DELETE, TRUNCATE
  readonly identity: string;
  /** Of `_old_`; null when the row has none. */
  readonly oldIdentity: string | null;
  /** JSON array of the columns' texts. */
  readonly row: string;
  /** Positions in `row` of columns whose value the log did not carry. */
  readonly unchanged: readonly number[];
}

export interface ReplayedTable {
  /** Identity to row. Begins with the copied rows of every identity that a change names, and ends as the state. */
  readonly rows: Map<string, string>;
  /** A TRUNCATE came: copied rows that no change names are gone too. */
  emptied: boolean;
}

/** Applies the changes of one transaction to one table. They are a set: their order means nothing. */
export function replayTransaction(table: ReplayedTable, changes: readonly ReplayedChange[]): void {
  const { rows } = table;
  // Unchanged values are those from before the transaction, so they are looked up before anything moves.
  const images = changes.filter(({ operation }) => operation === "INSERT" || operation === "UPDATE");
  const completed = images.map((change) => [change.identity, completedRow(rows, change)] as const);
  if (changes.some(({ operation }) => operation === "TRUNCATE")) {
    rows.clear();
    table.emptied = true;
  }
  for (const { operation, identity, oldIdentity } of changes) {
    if (operation === "DELETE") rows.delete(oldIdentity ?? identity);
    else if (oldIdentity !== null) rows.delete(oldIdentity);
  }
  for (const [identity, row] of completed) rows.set(identity, row);
}

function completedRow(rows: ReadonlyMap<string, string>, change: ReplayedChange): string {
  if (change.unchanged.length === 0) return change.row;
  const before = rows.get(change.oldIdentity ?? change.identity);
  // No row to take it from: a defect, which the comparison shows, as the value stays NULL.
  if (before === undefined) return change.row;
  const values = JSON.parse(change.row) as (string | null)[];
  const old = JSON.parse(before) as (string | null)[];
  for (const position of change.unchanged) values[position] = old[position]!;
  return JSON.stringify(values);
}
