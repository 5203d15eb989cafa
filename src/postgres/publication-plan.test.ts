import assert from "node:assert/strict";
import { test } from "node:test";
import { catalogTable } from "../../test/support/catalog.ts";
import { PgFloError } from "../base/errors.ts";
import {
  changeStatements,
  desiredPublications,
  firstChanges,
  type OwnPublication,
  optionStatements,
  publicationChange,
  publicationNames,
} from "./publication-plan.ts";
import type { SelectedTable } from "./selection.ts";

const names = publicationNames("app");
const selected = (table: SelectedTable["table"], mode: SelectedTable["mode"] = "copy-and-stream") => ({ table, mode });
const keyed = catalogTable("keyed", ["id", "a"], { key: ["id"] });
const bare = catalogTable("bare", ["a"]);

function members(publications: readonly OwnPublication[]) {
  return publications.map(({ tables }) => tables.map(({ name, columns }) => [name, columns]));
}

test("tables without an identity go to the publication that has no updates", () => {
  const [all, insert] = desiredPublications(names, [selected(keyed), selected(bare)], 180000);
  assert.deepEqual(members([all!, insert!]), [[["keyed", null]], [["bare", null]]]);
  assert.deepEqual(insert?.options, {
    insert: true,
    update: false,
    delete: false,
    truncate: true,
    viaRoot: true,
    generatedStored: true,
  });
});

test("tables that are only copied are in no publication", () => {
  assert.deepEqual(members(desiredPublications(names, [selected(keyed, "copy-only")], 180000)), [[], []]);
});

test("column lists are used from PostgreSQL 15 for filtered tables, never under REPLICA IDENTITY FULL", () => {
  const filtered = { ...keyed, filtered: true };
  const full = catalogTable("full", ["id"], { identity: { kind: "full", columns: [] }, filtered: true });
  const list = (table: SelectedTable["table"], version: number) =>
    desiredPublications(names, [selected(table)], version)[0]?.tables[0]?.columns;
  assert.deepEqual(list(filtered, 150000), ["id", "a"]);
  assert.equal(list(filtered, 140000), null);
  assert.equal(list(full, 180000), null);
});

test("a table whose identity goes away leaves one publication and enters the other at once", () => {
  const before = desiredPublications(names, [selected(keyed), selected(bare)], 180000);
  const lost = { ...keyed, identity: { kind: "none" as const } };
  const after = desiredPublications(names, [selected(lost), selected(bare)], 180000);
  const changes = after.map((desired, index) => publicationChange(before[index]!, desired));
  assert.deepEqual(changeStatements(changes), [
    'ALTER PUBLICATION "pg_flo_app_1" DROP TABLE ONLY "public"."keyed"',
    'ALTER PUBLICATION "pg_flo_app_1_insert" ADD TABLE ONLY "public"."keyed"',
  ]);
});

test("only differences are changed, columns by leaving and entering", () => {
  const before = desiredPublications(names, [selected(keyed), selected(bare)], 180000);
  assert.deepEqual(changeStatements(before.map((each) => publicationChange(each, each))), []);
  assert.deepEqual(optionStatements(before[0]!, before[0]!), []);
  const odd = catalogTable('o"dd', ["se lect"], { key: ["se lect"], filtered: true, schema: "S.1" });
  const after = desiredPublications(names, [selected({ ...keyed, filtered: true }), selected(odd)], 180000);
  assert.deepEqual(changeStatements(after.map((desired, index) => publicationChange(before[index]!, desired))), [
    'ALTER PUBLICATION "pg_flo_app_1" DROP TABLE ONLY "public"."keyed"',
    'ALTER PUBLICATION "pg_flo_app_1_insert" DROP TABLE ONLY "public"."bare"',
    'ALTER PUBLICATION "pg_flo_app_1" ADD TABLE ONLY "S.1"."o""dd" ("se lect"), ONLY "public"."keyed" ("id", "a")',
  ]);
});

test("many changes are cut by tables, never inside one", () => {
  const many = Array.from({ length: 10 }, (_, index) => selected(catalogTable(`t${index}`, ["id"], { key: ["id"] })));
  const [desired] = desiredPublications(names, many, 180000);
  const change = publicationChange({ ...desired!, tables: [] }, desired!);
  assert.equal(firstChanges([change], 3)[0]?.added.length, 3);
  assert.equal(firstChanges([change], 30)[0]?.added.length, 10);
});

test("a group's name that is too long is refused", () => {
  assert.throws(() => publicationNames("a".repeat(60)), PgFloError);
});
