// The rule of docs/files.md, by which files make a table's state, and nothing of the product: after every COMMIT of the
// source the rows must be the source's rows.
import { LSN_MAX, type SourceState } from "./application.ts";
import type { Change, GroupFiles, TableFiles, Value } from "./files.ts";
import type { Table } from "./schema.ts";

export interface Compared {
  /** States of a table that were compared with the source. */
  readonly states: number;
  readonly rows: number;
}

type Row = readonly Value[];

/**
 * `spills`: a transaction that was spilled may name identities that its rows had for a while, which takes out nothing.
 * Compares all tables at all positions, and the sum of the accounts at those and between batches.
 */
export function compareWithSource(
  tables: readonly Table[],
  files: GroupFiles,
  states: readonly SourceState[],
  spills: boolean,
): Compared {
  const last = states.findLast(({ lsn }) => lsn < LSN_MAX)!;
  if (files.position < last.lsn - 1n) throw new Error(`the position ${files.position} is before ${last.lsn}`);
  let compared = 0;
  let rows = 0;
  for (const table of tables) {
    const own = files.byTable.get(table.name)!;
    const state = new TableState(table, own, spills);
    let before: readonly string[] | null = null;
    for (const { lsn, rows: expected } of states) {
      const source = expected.get(table.name);
      const moved = state.moveTo(lsn);
      if (source === undefined || lsn < own.copiedFrom) continue;
      if (!moved && before !== null && sameRows(before, source)) continue;
      before = source;
      const mirrored = state.rows();
      if (!sameRows(mirrored, source)) throw new Error(difference(table, lsn, source, mirrored));
      compared++;
      rows += source.length;
    }
    if (state.left > 0) throw new Error(`${table.name}: ${state.left} changes after the last COMMIT`);
  }
  compareSums(tables, files);
  return { states: compared, rows };
}

/** At the end of every batch, whichever transactions are in it, no money is lost or made. */
function compareSums(tables: readonly Table[], files: GroupFiles): void {
  const accounts = tables.filter(({ kind }) => kind === "accounts");
  const from = accounts.map(({ name }) => files.byTable.get(name)!.copiedFrom).reduce((a, b) => (a > b ? a : b));
  const states = accounts.map((table) => new TableState(table, files.byTable.get(table.name)!, true));
  for (const end of [...files.batchEnds].sort((a, b) => (a < b ? -1 : 1))) {
    let sum = 0;
    for (const state of states) {
      state.moveTo(end + 1n);
      sum += state.sum("balance");
    }
    if (end >= from && sum !== 1200) throw new Error(`the accounts have ${sum} at ${end}, not 1200`);
  }
}

/** The rows of a table while its transactions are applied one after the other. */
class TableState {
  readonly #table: Table;
  readonly #files: TableFiles;
  readonly #keyAt: readonly number[];
  readonly #spills: boolean;
  #keyed = new Map<string, Row>();
  #plain: Row[] = [];
  #next = 0;

  constructor(table: Table, files: TableFiles, spills: boolean) {
    this.#table = table;
    this.#spills = spills;
    this.#files = files;
    this.#keyAt = table.key.map((column) => table.columns.indexOf(column));
    for (const row of files.copy) {
      if (this.#keyAt.length === 0) this.#plain.push(row);
      else this.#keyed.set(this.#keyOf(row), row);
    }
  }

  get left(): number {
    return this.#files.changes.length - this.#next;
  }

  /** Applies the transactions with a commit LSN below this one. False: there was none. */
  moveTo(lsn: bigint): boolean {
    const { changes } = this.#files;
    const from = this.#next;
    while (this.#next < changes.length && changes[this.#next]!.lsn < lsn) {
      let end = this.#next;
      while (end < changes.length && changes[end]!.lsn === changes[this.#next]!.lsn) end++;
      const transaction = changes.slice(this.#next, end);
      if (this.#keyAt.length === 0) this.#applyInOrder(transaction);
      else this.#applyAsSet(transaction);
      this.#next = end;
    }
    return this.#next > from;
  }

  rows(): string[] {
    const rows = this.#keyAt.length === 0 ? this.#plain : [...this.#keyed.values()];
    return rows.map((row) => JSON.stringify(row)).sort();
  }

  sum(column: string): number {
    const at = this.#table.columns.indexOf(column);
    return [...this.#keyed.values()].reduce((sum, row) => sum + Number(row[at]), 0);
  }

  #keyOf(row: Row): string {
    return JSON.stringify(this.#keyAt.map((at) => row[at]));
  }

  #applyAsSet(changes: readonly Change[]): void {
    const before = this.#keyed;
    const truncated = changes.some(({ operation }) => operation === "TRUNCATE");
    this.#keyed = truncated ? new Map() : new Map(before);
    const strict = changes[0]!.lsn >= this.#files.copiedFrom;
    for (const { operation, row, old } of changes) {
      const takes = operation === "DELETE" || (operation === "UPDATE" && old[this.#keyAt[0]!] !== null);
      // A row that is taken out was there before the transaction, so it must be there.
      const key = this.#keyOf(old);
      if (takes && !this.#keyed.delete(key) && strict && !truncated && !this.#spills) {
        this.#fail(`no row ${key} to take out, ${tell(changes)}`);
      }
      if (operation === "DELETE" && this.#keyOf(row) !== this.#keyOf(old)) this.#fail("a DELETE names two identities");
    }
    const put = new Set<string>();
    for (const { operation, row, old, unchanged } of changes) {
      if (operation !== "INSERT" && operation !== "UPDATE") continue;
      const origin = before.get(
        operation === "UPDATE" && old[this.#keyAt[0]!] !== null ? this.#keyOf(old) : this.#keyOf(row),
      );
      const image = row.map((value, at) => {
        if (!unchanged.includes(this.#table.columns[at]!)) return value;
        if (origin === undefined && strict) this.#fail("an unchanged value of a row that was not there");
        return origin?.[at] ?? null;
      });
      const key = this.#keyOf(image);
      if (put.has(key)) this.#fail("a key is put twice in one transaction");
      put.add(key);
      this.#keyed.set(key, image);
    }
  }

  #applyInOrder(changes: readonly Change[]): void {
    if (changes.some(({ operation }) => operation === "TRUNCATE")) this.#plain = [];
    for (const { operation, row, old } of changes) {
      if (operation === "UPDATE" || operation === "DELETE") {
        const text = JSON.stringify(old);
        const at = this.#plain.findIndex((each) => JSON.stringify(each) === text);
        if (at >= 0) this.#plain.splice(at, 1);
        else if (changes[0]!.lsn >= this.#files.copiedFrom) this.#fail(`${operation} of a row that was not there`);
      }
      if (operation === "INSERT" || operation === "UPDATE") this.#plain.push(row);
    }
  }

  #fail(what: string): never {
    throw new Error(`${this.#table.name} (${this.#table.kind}), after ${this.#next} changes: ${what}`);
  }
}

function tell(changes: readonly Change[]): string {
  return JSON.stringify(changes, (_, value) => (typeof value === "bigint" ? String(value) : value)).slice(0, 2000);
}

function sameRows(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((row, at) => row === right[at]);
}

function difference(table: Table, lsn: bigint, source: readonly string[], mirrored: readonly string[]): string {
  const lacking = source.filter((row) => !mirrored.includes(row));
  const surplus = mirrored.filter((row) => !source.includes(row));
  return `${table.name} (${table.kind}: ${table.columns.join(", ")}) at ${lsn}: the source has ${source.length} rows, the files
    ${mirrored.length}; lacking ${lacking.slice(0, 5).join(" ")}; surplus ${surplus.slice(0, 5).join(" ")}`;
}
