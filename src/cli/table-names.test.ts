import assert from "node:assert/strict";
import { test } from "node:test";
import { PgFloError } from "../base/errors.ts";
import { fullName, tablesNamed } from "./table-names.ts";

const tables = [
  { schema: "public", name: "orders" },
  { schema: "public", name: "order.items" },
  { schema: "sales", name: "orders" },
  { schema: "sales", name: "regions" },
];

const named = (...names: string[]) => tablesNamed(tables, names).map(fullName);

test("a table is named with its schema, without it where that is clear, or by a wildcard", () => {
  assert.deepEqual(named("public.orders"), ["public.orders"]);
  assert.deepEqual(named("regions", "public.orders"), ["public.orders", "sales.regions"]);
  assert.deepEqual(named("order.items"), ["public.order.items"]);
  assert.deepEqual(named("sales.*", "sales.orders"), ["sales.orders", "sales.regions"]);
  assert.deepEqual(named("*"), tables.map(fullName));
  assert.deepEqual(named("order*"), ["public.orders", "public.order.items", "sales.orders"]);
});

test("names that no table has, or several, are told all at once", () => {
  assert.throws(
    () => named("orders", "nothing", "o.ders", "nothing.*", "regions"),
    (error: unknown) =>
      error instanceof PgFloError &&
      error.code === "CONFIG_INVALID" &&
      /"orders" means several tables: public.orders, sales.orders/.test(error.message) &&
      /"nothing" is no table of this group/.test(error.message) &&
      /"o.ders" is no table/.test(error.message) &&
      /"nothing.\*" is no table/.test(error.message) &&
      !/"regions"/.test(error.message),
  );
});
