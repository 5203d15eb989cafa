import assert from "node:assert/strict";
import { test } from "node:test";
import type { MirrorTable } from "./mirror-table.ts";
import { nameViews } from "./view-names.ts";

function named(...names: readonly (readonly [schema: string, name: string])[]): MirrorTable[] {
  const rest = {
    identity: { kind: "none", columns: [] },
    cutLsn: null,
    position: null,
    versions: [],
    files: [],
  } as const;
  return names.map(([schema, name]) => ({ schema, name, ...rest }));
}

function shown(tables: readonly MirrorTable[]) {
  return nameViews(tables).views.map((view) => [view.table.name, `${view.schema}.${view.state}`, view.changes]);
}

test("views have the names of their tables", () => {
  const tables = named(["sales", 'Odd "name".x'], ["public", "select"], ["main", "t"]);
  assert.deepEqual(shown(tables), [
    ["t", "main.t", "t__changes"],
    ["select", "public.select", "select__changes"],
    ['Odd "name".x', 'sales.Odd "name".x', 'Odd "name".x__changes'],
  ]);
  assert.deepEqual(nameViews(tables).notices, []);
});

test("names that differ only in case get a number, never another table's name, and a notice", () => {
  const tables = named(["public", "orders"], ["public", "Orders"], ["public", "orders_2"]);
  assert.deepEqual(shown(tables), [
    ["Orders", "public.Orders", "Orders__changes"],
    ["orders", "public.orders_3", "orders_3__changes"],
    ["orders_2", "public.orders_2", "orders_2__changes"],
  ]);
  assert.deepEqual(shown(tables.toReversed()), shown(tables));
  assert.match(nameViews(tables).notices.join(), /public\.orders is shown as public\.orders_3/);
});

test("a table called like a history keeps its name and the history gets another", () => {
  const tables = named(["public", "t"], ["public", "t__changes"]);
  assert.deepEqual(shown(tables), [
    ["t", "public.t", "t__changes_2"],
    ["t__changes", "public.t__changes", "t__changes__changes"],
  ]);
  assert.match(nameViews(tables).notices.join(), /history of public\.t is shown as public\.t__changes_2/);
});

test("schemas that DuckDB has for itself or cannot tell apart are shown under another name", () => {
  const { views, notices } = nameViews(named(["temp", "t"], ["Sales", "t"], ["sales", "t"]));
  assert.deepEqual(
    views.map((view) => view.schema),
    ["Sales", "sales_2", "temp_2"],
  );
  assert.equal(notices.length, 2);
});
