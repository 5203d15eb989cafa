// A server of five tables in memory: random statements change its rows and write the log that a real one would send.
import fc from "fast-check";
import type { StreamTable } from "../../src/stream/stream-table.ts";
import { type Cell, message, type Tuple, textTable, UNCHANGED } from "./stream-log.ts";

const keyedColumns = ["v", "id", "big", "part"];
const keyed = textTable(1, keyedColumns, { kind: "key", columns: ["id"] });
const composite = textTable(2, keyedColumns, { kind: "key", columns: ["id", "part"] });
const full = textTable(3, keyedColumns, { kind: "full", columns: ["id", "part"] });
const keyless = textTable(4, keyedColumns, { kind: "full", columns: [] });
const none = textTable(5, keyedColumns, { kind: "none" });
export const tables = [keyed, composite, full, keyless, none];

export interface Row {
  readonly v: string;
  readonly id: string;
  readonly big: string | null;
  readonly part: string;
}

export const statement = fc.record({
  table: fc.integer({ min: 0, max: tables.length - 1 }),
  kind: fc.constantFrom(
    "insert",
    "insert",
    "update",
    "update",
    "move",
    "move",
    "swap",
    "delete",
    "relation",
    "truncate",
  ),
  at: fc.nat(1000),
  id: fc.nat(5),
  part: fc.constantFrom("p", `${"q".repeat(9)}`),
  v: fc.nat(99),
  big: fc.constantFrom("keep", "keep", "write", "null"),
  dice: fc.nat(5),
});
export type Statement = typeof statement extends fc.Arbitrary<infer T> ? T : never;

/** The server: its rows, the columns around the mirrored ones, and the log it writes. */
export class Server {
  readonly rows = new Map<StreamTable, Row[]>(tables.map((table) => [table, []]));
  readonly log: number[][] = [];
  #layouts = new Map<StreamTable, readonly string[]>();

  constructor() {
    for (const table of tables) this.#describe(table, 0);
  }

  /** What it is now, and back to it. */
  save(): () => void {
    const rows = [...this.rows].map(([table, each]) => [table, [...each]] as const);
    const layouts = new Map(this.#layouts);
    return () => {
      for (const [table, each] of rows) this.rows.set(table, [...each]);
      this.#layouts = new Map(layouts);
    };
  }

  /** Tells every relation as it is, as at the begin of a streamed transaction. */
  describeAgain(): void {
    for (const [table, columns] of this.#layouts) this.#tell(table, columns);
  }

  run({ table: number, kind, at, id, part, v, big, dice }: Statement): void {
    const table = tables[number]!;
    const rows = this.rows.get(table)!;
    const row = rows[at % Math.max(1, rows.length)];
    const written = big === "null" ? null : `${v}`.repeat(8);
    if (kind === "relation") this.#describe(table, dice);
    else if (kind === "truncate") {
      if (dice === 0) this.#truncate(at % 2 === 0 ? [table] : [table, keyed]);
    } else if (kind === "insert") {
      this.#insert(table, { v: String(v), id: String(id), big: written, part });
    } else if (row && table !== none) {
      const kept = big === "keep" ? row.big : written;
      if (kind === "delete") this.#delete(table, row);
      else if (kind === "update") this.#update(table, row, { ...row, v: String(v), big: kept });
      else if (kind === "move") this.#update(table, row, { v: String(v), id: String(id), big: kept, part });
      else this.#swap(table, row, rows[(at >> 3) % rows.length]!);
    }
  }

  #swap(table: StreamTable, first: Row, second: Row): void {
    if (first === second) return;
    const away = this.#update(table, first, { ...first, id: "away" });
    if (!away) return;
    const moved = this.#update(table, second, { ...second, id: first.id, part: first.part });
    if (moved) this.#update(table, away, { ...away, id: second.id, part: second.part });
  }

  #describe(table: StreamTable, layout: number): void {
    const layouts = [
      keyedColumns,
      [...keyedColumns, "extra"],
      ["extra", ...keyedColumns],
      ["v", "extra", "id", "other", "big", "part"],
      ["part", "extra", "big", "id", "v"],
      keyedColumns,
    ];
    const columns = layouts[layout]!;
    this.#layouts.set(table, columns);
    this.#tell(table, columns);
  }

  #tell(table: StreamTable, columns: readonly string[]): void {
    const replicaIdentity = table.identity.kind === "full" ? "f" : table.identity.kind === "key" ? "d" : "n";
    this.log.push(message.relation({ oid: table.oid, columns, replicaIdentity }));
  }

  #truncate(truncated: readonly StreamTable[]): void {
    for (const table of truncated) this.rows.set(table, []);
    this.log.push(message.truncate(...truncated.map(({ oid }) => oid)));
  }

  #insert(table: StreamTable, row: Row): void {
    if (this.#occupied(table, row)) return;
    this.rows.get(table)!.push(row);
    this.log.push(message.insert(table.oid, this.#tuple(table, row)));
  }

  #delete(table: StreamTable, row: Row): void {
    const rows = this.rows.get(table)!;
    rows.splice(rows.indexOf(row), 1);
    const old = this.#old(table, row);
    this.log.push(message.delete(table.oid, old.kind, old.tuple));
  }

  /** Gives the new row; null when its key is taken, which is an error at the server. */
  #update(table: StreamTable, row: Row, next: Row): Row | null {
    const keys = keysOf(table);
    const moved = keys.some((column) => row[column] !== next[column]);
    if (moved && this.#occupied(table, next)) return null;
    const rows = this.rows.get(table)!;
    rows[rows.indexOf(row)] = next;
    // What was TOASTed and not written again is not in the log: long values, also in keys.
    const untouched = new Set(
      (["big", "part"] as const).filter((column) => row[column] === next[column] && (next[column]?.length ?? 0) > 8),
    );
    const logsOld = table.identity.kind === "full" || moved || keys.some((column) => untouched.has(column as "part"));
    const tuple = this.#tuple(table, next, untouched);
    this.log.push(message.update(table.oid, tuple, logsOld ? this.#old(table, row) : undefined));
    return next;
  }

  #occupied(table: StreamTable, row: Row): boolean {
    const keys = keysOf(table);
    return (
      keys.length > 0 && this.rows.get(table)!.some((other) => keys.every((column) => other[column] === row[column]))
    );
  }

  #old(table: StreamTable, row: Row): { readonly kind: "K" | "O"; readonly tuple: Tuple } {
    if (table.identity.kind === "full") return { kind: "O", tuple: this.#tuple(table, row) };
    const keys: readonly string[] = keysOf(table);
    const tuple = this.#tuple(table, row);
    return { kind: "K", tuple: this.#layouts.get(table)!.map((name, at) => (keys.includes(name) ? tuple[at]! : null)) };
  }

  #tuple(table: StreamTable, row: Row, untouched: ReadonlySet<string> = new Set()): Tuple {
    const cells: Record<string, Cell> = { ...row, extra: "not mirrored", other: null };
    return this.#layouts.get(table)!.map((name) => (untouched.has(name) ? UNCHANGED : cells[name]!));
  }
}

export function keysOf({ identity }: StreamTable): readonly (keyof Row)[] {
  return identity.kind === "none" ? [] : (identity.columns as readonly (keyof Row)[]);
}
