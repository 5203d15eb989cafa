// Random transactions on a small model of a table, written as net-effect rows by the rule of design.md into randomly
// cut files: at every position the state must equal the model.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Change, MirrorFiles, type Values } from "../../test/support/mirror-files.ts";
import { stateSql } from "./state-sql.ts";

/** An identity as the file holds it: two columns, and the exact text of a value that DECIMAL cannot hold. */
interface Identity {
  readonly values: Values;
  readonly exact?: string;
}

const identities: readonly Identity[] = [
  { values: { k: "1", l: "'x'" } },
  { values: { k: "1", l: "'y'" } },
  { values: { l: "'x'" }, exact: "NaN" },
  { values: { l: "'x'" }, exact: "1e-30" },
];

interface Row {
  readonly big: string;
  readonly wide: string;
  readonly count: number;
}
type State = ReadonlyMap<number, Row>;

/** A row inside a transaction: where it stood before (undefined: nowhere), and which TOASTed columns were written. */
interface LiveRow {
  row: Row;
  readonly origin: number | undefined;
  written: { big: boolean; wide: boolean };
}

const statement = fc.record({
  kind: fc.constantFrom("insert", "update", "update", "delete", "move", "move", "swap", "truncate-rarely"),
  from: fc.nat(identities.length - 1),
  to: fc.nat(identities.length - 1),
  big: fc.boolean(),
  wide: fc.boolean(),
  dice: fc.nat(9),
});
type Statement = typeof statement extends fc.Arbitrary<infer T> ? T : never;

const history = fc.record({
  copied: fc.array(fc.nat(identities.length - 1), { maxLength: 4 }),
  transactions: fc.array(fc.array(statement, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 12 }),
  cuts: fc.array(fc.nat(5), { minLength: 1, maxLength: 20 }),
  kind: fc.constantFrom("key" as const, "full" as const),
});

test("after random transactions the state at every position equals the model", async () => {
  await fc.assert(
    fc.asyncProperty(history, async ({ copied, transactions, cuts, kind }) => {
      await using files = await MirrorFiles.create();
      files.version([
        ["k", "DECIMAL(10,2)"],
        ["l", "VARCHAR"],
        ["big", "VARCHAR"],
        ["count", "INTEGER"],
        ["wide", "VARCHAR"],
      ]);
      let state: State = new Map(copied.map((id) => [id, { big: `b${id}`, wide: `w${id}`, count: 0 }]));
      await files.copy([...state].map(([id, row]) => ({ row: valuesOf(id, row), ...exactOf(id, "") })));
      const states = new Map<number, State>([[99, state]]);
      const changes: Change[] = [];
      for (const [at, statements] of transactions.entries()) {
        const lsn = 100 + at * 10;
        const before = state;
        const result = run(before, statements, lsn);
        state = result.state;
        changes.push(...netEffect(before, result, lsn, kind, statements[0]!.dice));
        states.set(lsn, state);
      }
      for (let start = 0, at = 0; start < changes.length; at++) {
        const end = start + 1 + cuts[at % cuts.length]!;
        await files.stream(changes.slice(start, end));
        start = end;
      }
      const table = files.table({ kind, columns: ["k", "l"] }, { cutLsn: 100n });
      for (const [lsn, expected] of states) {
        const rows = [...expected].map(([id, row]) => shown(id, row)).sort();
        const actual = await files.rows(stateSql(table, { at: BigInt(lsn) }));
        assert.deepEqual(actual.map((row) => row.join("|")).sort(), rows, `at ${lsn}`);
      }
    }),
    { numRuns: Number(process.env.PG_FLO_RUNS ?? 40) },
  );
});

interface RunResult {
  readonly state: State;
  readonly live: ReadonlyMap<number, LiveRow>;
  readonly truncated: boolean;
}

/** Applies statements one after the other, as the source would; those that it would refuse do nothing. */
function run(before: State, statements: readonly Statement[], lsn: number): RunResult {
  let live = new Map<number, LiveRow>();
  for (const [id, row] of before) live.set(id, { row, origin: id, written: { big: false, wide: false } });
  let truncated = false;
  for (const [at, { kind, from, to, big, wide, dice }] of statements.entries()) {
    const stamp = `${lsn}.${at}`;
    const there = live.get(from);
    const update = (one: LiveRow): LiveRow => ({
      origin: one.origin,
      row: { big: big ? `b${stamp}` : one.row.big, wide: wide ? `w${stamp}` : one.row.wide, count: one.row.count + 1 },
      written: { big: one.written.big || big, wide: one.written.wide || wide },
    });
    if (kind === "insert" && !there) {
      const written = { big: true, wide: true };
      live.set(from, { row: { big: `b${stamp}`, wide: `w${stamp}`, count: 0 }, origin: undefined, written });
    } else if (kind === "update" && there) live.set(from, update(there));
    else if (kind === "delete" && there) live.delete(from);
    else if (kind === "move" && there && !live.has(to)) {
      live.delete(from);
      live.set(to, update(there));
    } else if (kind === "swap" && there && live.has(to) && from !== to) {
      live.set(from, update(live.get(to)!));
      live.set(to, update(there));
    } else if (kind === "truncate-rarely" && dice === 0) {
      live = new Map();
      truncated = true;
    }
  }
  return { state: new Map([...live].map(([id, { row }]) => [id, row])), live, truncated };
}

/** The rows that consolidation may write, in any order; `dice` chooses among the ways to say the same. */
function netEffect(before: State, result: RunResult, lsn: number, kind: "key" | "full", dice: number): Change[] {
  const changes: Change[] = [];
  const survivors = new Set([...result.live.values()].map((one) => one.origin));
  const old = (id: number) => (kind === "full" ? valuesOf(id, before.get(id)!) : identities[id]!.values);
  if (!result.truncated) {
    for (const id of before.keys()) {
      const put = result.live.get(id);
      if (survivors.has(id) || (put && dice % 2 === 0)) continue;
      changes.push({ lsn, op: "DELETE", row: identities[id]!.values, old: old(id), ...exactOf(id, "both") });
    }
  }
  for (const [id, { row, origin, written }] of result.live) {
    if (origin === undefined) {
      const op = before.has(id) && !result.truncated && dice % 3 === 0 && kind === "key" ? "UPDATE" : "INSERT";
      changes.push({ lsn, op, row: valuesOf(id, row), ...exactOf(id, "") });
      continue;
    }
    if (origin === id && row === before.get(id)) continue;
    const unchanged = (["big", "wide"] as const).filter((name) => !written[name]);
    const names = new Set<string>(unchanged);
    const carried = Object.fromEntries(Object.entries(valuesOf(id, row)).filter(([name]) => !names.has(name)));
    const moved = origin !== id || kind === "full";
    const exact = { ...exactOf(id, "").exact, ...(moved ? exactOf(origin, "_old_").exact : {}) };
    changes.push({
      ...{ lsn, op: "UPDATE", row: carried },
      ...(moved ? { old: old(origin) } : {}),
      ...(unchanged.length > 0 ? { unchanged } : {}),
      ...(Object.keys(exact).length > 0 ? { exact } : {}),
    });
  }
  if (dice % 2 === 1) changes.reverse();
  return result.truncated ? [{ lsn, op: "TRUNCATE" }, ...changes] : changes;
}

function valuesOf(id: number, row: Row): Values {
  return { ...identities[id]!.values, big: `'${row.big}'`, wide: `'${row.wide}'`, count: String(row.count) };
}

function exactOf(id: number, prefix: "" | "_old_" | "both"): { exact?: Record<string, string> } {
  const text = identities[id]!.exact;
  if (text === undefined) return {};
  return { exact: prefix === "both" ? { k: text, _old_k: text } : { [`${prefix}k`]: text } };
}

function shown(id: number, row: Row): string {
  const { values } = identities[id]!;
  const k = values.k === undefined ? null : "1.00";
  return [k, values.l!.slice(1, -1), row.big, row.count, row.wide].join("|");
}
