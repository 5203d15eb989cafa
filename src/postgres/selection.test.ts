import assert from "node:assert/strict";
import { test } from "node:test";
import { catalogOf, catalogTable } from "../../test/support/catalog.ts";
import type { OtherRelation } from "./catalog.ts";
import { type SchemaWishes, selectTables, type TableWish } from "./selection.ts";

const copyAndStream: TableWish = { mode: "copy-and-stream" };
const orders = catalogTable("orders", ["id", "note", "total"], { key: ["id"] });
const events = catalogTable("events", ["at", "what"]);
const catalog = catalogOf([orders, events]);

function names(schemas: SchemaWishes, from = catalog) {
  const { tables, problems } = selectTables(from, schemas);
  return {
    tables: tables.map(({ table, mode }) => [`${table.schema}.${table.name}`, mode, table.columns.map((c) => c.name)]),
    codes: problems.map(({ severity, code }) => `${severity} ${code}`),
    problems,
  };
}

const other = (name: string, reason: OtherRelation["reason"], related: OtherRelation["related"] = null) => ({
  schema: "public",
  name,
  reason,
  related,
});

test("a wildcard takes every table with all columns", () => {
  assert.deepEqual(names({ public: "*" }), {
    tables: [
      ["public.orders", "copy-and-stream", ["id", "note", "total"]],
      ["public.events", "copy-and-stream", ["at", "what"]],
    ],
    codes: [],
    problems: [],
  });
});

test("a wildcard tells what it leaves out, partitions excepted", () => {
  const withOthers = catalogOf([orders], {
    others: [
      other("v1", "view"),
      other("v2", "view"),
      other("u", "unlogged table"),
      other("p1", "partition", { schema: "public", name: "p" }),
    ],
  });
  const { codes, problems } = names({ public: "*" }, withOthers);
  assert.deepEqual(codes, ["info not-mirrored", "warning not-mirrored"]);
  assert.match(problems[0]!.message, /v1, v2/);
  assert.equal(problems[1]!.fix, 'ALTER TABLE "public"."u" SET LOGGED;');
});

test("only named tables are taken, with their modes", () => {
  const { tables, codes } = names({ public: { events: { mode: "stream-only" } } });
  assert.deepEqual(tables, [["public.events", "stream-only", ["at", "what"]]]);
  assert.deepEqual(codes, []);
});

test("wrong names of schemas, tables and columns are errors with near names", () => {
  const { tables, problems } = names({
    pubic: "*",
    public: {
      order: copyAndStream,
      events: { ...copyAndStream, excludeColumns: ["wat"], includeColumns: ["at", "zz"] },
    },
  });
  assert.deepEqual(tables, [["public.events", "copy-and-stream", ["at"]]]);
  assert.deepEqual(
    problems.map(({ severity, code, message }) => [severity, code, message]),
    [
      ["error", "schema-missing", "does not exist; did you mean public?"],
      ["error", "table-missing", "does not exist; did you mean orders?"],
      ["error", "column-missing", "include_columns names zz, which does not exist"],
      ["error", "column-missing", "exclude_columns names wat, which does not exist; did you mean at or what?"],
    ],
  );
});

test("schemas of the server and of the metadata are never mirrored", () => {
  const { tables, codes } = names({ pg_catalog: "*", information_schema: "*", _pg_flo: "*", pg_toast: "*" });
  assert.deepEqual(tables, []);
  assert.deepEqual(codes, Array(4).fill("error schema-refused"));
});

test("a partition that is named is an error that names its root", () => {
  const withPartition = catalogOf([orders], {
    others: [other("orders_2024", "partition", { schema: "sales", name: "orders" })],
  });
  const { problems } = names({ public: { orders_2024: copyAndStream } }, withPartition);
  assert.equal(problems[0]?.severity, "error");
  assert.match(problems[0]!.fix, /sales\.orders/);
});

test("identity columns stay, and excluding one by name is an error", () => {
  const included = names({ public: { orders: { ...copyAndStream, includeColumns: ["note"] } } });
  assert.deepEqual(included.tables, [["public.orders", "copy-and-stream", ["id", "note"]]]);
  assert.deepEqual(included.codes, ["info identity-column-added"]);
  const excluded = names({ public: { orders: { ...copyAndStream, excludeColumns: ["id", "note"] } } });
  assert.deepEqual(excluded.tables, [["public.orders", "copy-and-stream", ["id", "total"]]]);
  assert.deepEqual(excluded.codes, ["error identity-column-excluded"]);
  const copied = names({ public: { orders: { mode: "copy-only", excludeColumns: ["id"] } } });
  assert.deepEqual(copied.tables, [["public.orders", "copy-only", ["note", "total"]]]);
  assert.deepEqual(copied.codes, []);
});

test("filtered tells whether the config left columns out", () => {
  const filtered = (schemas: SchemaWishes) => selectTables(catalog, schemas).tables[0]?.table.filtered;
  assert.equal(filtered({ public: { orders: copyAndStream } }), false);
  assert.equal(filtered({ public: { orders: { ...copyAndStream, includeColumns: ["id", "note", "total"] } } }), false);
  assert.equal(filtered({ public: { orders: { ...copyAndStream, excludeColumns: ["note"] } } }), true);
});

test("a table with no column left is an error", () => {
  const { tables, codes } = names({ public: { events: { ...copyAndStream, excludeColumns: ["at", "what"] } } });
  assert.deepEqual(tables, []);
  assert.deepEqual(codes, ["error no-columns"]);
});

test("generated columns that the log does not carry are left out of streamed tables", () => {
  const table = catalogTable("g", ["id", "stored:s", "virtual:v"], { key: ["id"] });
  const columns = (serverVersion: number, mode: TableWish["mode"]) =>
    selectTables(catalogOf([table], { serverVersion }), { public: { g: { mode } } }).tables[0]?.table.columns.map(
      ({ name }) => name,
    );
  assert.deepEqual(columns(180000, "copy-and-stream"), ["id", "stored"]);
  assert.deepEqual(columns(170000, "copy-and-stream"), ["id"]);
  assert.deepEqual(columns(140000, "copy-only"), ["id", "stored", "virtual"]);
  const { tables, problems } = selectTables(catalogOf([table], { serverVersion: 160000 }), { public: "*" });
  assert.equal(problems[0]?.code, "generated-column");
  assert.equal(tables[0]?.table.filtered, false);
});
