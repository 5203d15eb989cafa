// Random changes of a table whose rows can only be counted, written in order as the log has them: at every position
// the state equals a list from which each DELETE takes one equal row.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Change, MirrorFiles, type Values } from "../../test/support/mirror-files.ts";
import { stateSql } from "./state-sql.ts";

/** Few different rows, so that equal ones meet: values, and how DuckDB prints them. */
const kinds: readonly { readonly values: Values; readonly exact?: string; readonly shown: string }[] = [
  { values: { a: "'NaN'::FLOAT", l: "[1, NULL]" }, shown: "nan|[1, NULL]||" },
  { values: { a: "1", t: "'x'" }, shown: "1.0|||x" },
  { values: {}, shown: "|||" },
  { values: { a: "2" }, exact: "NaN", shown: "2.0|||" },
  { values: { a: "2" }, exact: "Infinity", shown: "2.0|||" },
];

const change = fc.record({
  kind: fc.constantFrom("insert", "insert", "update", "delete", "truncate"),
  pick: fc.nat(20),
  to: fc.nat(kinds.length - 1),
  commit: fc.boolean(),
});

const history = fc.record({
  copied: fc.array(fc.nat(kinds.length - 1), { maxLength: 6 }),
  changes: fc.array(change, { minLength: 1, maxLength: 25 }),
  cut: fc.integer({ min: 1, max: 10 }),
});

for (const kind of ["full", "none"] as const) {
  test(`without a key under identity ${kind} the state at every position equals the model`, async () => {
    await fc.assert(
      fc.asyncProperty(history, async ({ copied, changes, cut }) => {
        await using files = await MirrorFiles.create();
        files.version([
          ["a", "FLOAT"],
          ["l", "INTEGER[]"],
          ["n", "DECIMAL(10,2)"],
          ["t", "VARCHAR"],
        ]);
        await files.copy(copied.map((at) => ({ row: kinds[at]!.values, ...exactOf({ n: kinds[at]!.exact }) })));
        let rows = [...copied];
        let lsn = 100;
        const written: Change[] = [];
        const states = new Map([[99, rows]]);
        for (const { kind: what, pick, to, commit } of changes) {
          const at = rows.length === 0 ? -1 : pick % rows.length;
          const old = kinds[rows[at] ?? 0]!;
          const image = kinds[to]!;
          if (what === "insert") {
            rows = [...rows, to];
            written.push({ lsn, op: "INSERT", row: image.values, ...exactOf({ n: image.exact }) });
          } else if (what === "truncate" && pick === 0) {
            rows = [];
            written.push({ lsn, op: "TRUNCATE" });
          } else if (kind === "full" && at >= 0 && what === "delete") {
            rows = rows.toSpliced(at, 1);
            written.push({ lsn, op: "DELETE", old: old.values, ...exactOf({ _old_n: old.exact }) });
          } else if (kind === "full" && at >= 0 && what === "update") {
            rows = rows.toSpliced(at, 1, to);
            const exact = exactOf({ n: image.exact, _old_n: old.exact });
            written.push({ lsn, op: "UPDATE", row: image.values, old: old.values, ...exact });
          }
          states.set(lsn, rows);
          if (commit) lsn += 10;
        }
        for (let at = 0; at < written.length; at += cut) await files.stream(written.slice(at, at + cut));
        const table = files.table({ kind, columns: [] });
        for (const [at, expected] of states) {
          const actual = await files.rows(stateSql(table, { at: BigInt(at) }));
          const shown = expected.map((one) => kinds[one]!.shown).sort();
          assert.deepEqual(actual.map((values) => values.join("|")).sort(), shown, `at ${at}`);
        }
      }),
      { numRuns: Number(process.env.PG_FLO_RUNS ?? 25) },
    );
  });
}

function exactOf(texts: Readonly<Record<string, string | undefined>>): { exact?: Record<string, string> } {
  const exact = Object.entries(texts).flatMap(([name, text]) => (text === undefined ? [] : [[name, text] as const]));
  return exact.length > 0 ? { exact: Object.fromEntries(exact) } : {};
}
