// What a changed definition means: the next version, or a new copy.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ReplicaIdentity, SourceColumn } from "../postgres/catalog.ts";
import type { DefinitionTraces } from "../postgres/definition-traces.ts";
import { type Definition, isWidened, looksLike, planSchemaChange } from "./schema-changes.ts";

function column(name: string, attnum: number, more: Partial<SourceColumn> = {}): SourceColumn {
  return { name, attnum, typeOid: 25, typmod: -1, typeName: "text", notNull: false, generated: "", ...more };
}

const key: ReplicaIdentity = { kind: "key", columns: ["id"] };

function definition(
  columns: readonly SourceColumn[],
  more: Partial<DefinitionTraces> = {},
  identity = key,
): Definition {
  const traces: DefinitionTraces = {
    lastAttnum: Math.max(...columns.map(({ attnum }) => attnum)),
    rowVersions: Object.fromEntries(columns.map(({ attnum }) => [attnum, "7"])),
    missing: [],
    defaults: {},
    partitioned: false,
    heaps: { 1: 100 },
    attached: {},
    born: [],
    varying: [],
    ...more,
  };
  return { columns, identity, traces };
}

const id = column("id", 1, { typeOid: 23, typeName: "integer" });
const before = definition([id, column("v", 2)]);

function plan(now: Definition, stored = before, listed = false, emptyLeaves: readonly number[] = []): string {
  const change = planSchemaChange(stored, now, { listed, emptyLeaves: new Set(emptyLeaves) });
  if (change.kind === "version") return `version: ${change.summary}${change.ambiguous ? " (ambiguous)" : ""}`;
  return change.kind === "copy" ? `copy: ${change.reason}` : change.kind;
}

test("columns that come, go and are renamed make a version", () => {
  assert.equal(plan(before), "none");
  assert.equal(plan(definition([id, column("v", 2), column("c", 3)])), 'version: column "c" is new');
  assert.equal(plan(definition([id], { lastAttnum: 2 })), 'version: column "v" is gone');
  assert.equal(plan(definition([id, column("w", 2)])), 'version: column "v" is called "w"');
  assert.equal(plan(definition([id, column("v", 2, { notNull: true })])), 'version: column "v" has no NULL');
  assert.match(plan(definition([id, column("w", 3)])), /ambiguous/, "a text came, a text went");
  const renamed = definition([{ ...id, name: "key" }, column("v", 2)], {}, { kind: "key", columns: ["key"] });
  assert.match(plan(renamed), /^version: column "id" is called "key"/);
});

test("a column that is no new one, is generated, listed, or whose rows were rewritten: copy", () => {
  assert.match(
    plan(definition([id, column("v", 2), column("c", 3)]), definition([id, column("v", 2)], { lastAttnum: 3 })),
    /left out/,
  );
  assert.match(plan(definition([id, column("v", 2), column("c", 3, { generated: "s" })])), /generated/);
  assert.match(plan(definition([id, column("v", 2), column("c", 3)]), before, true), /publication/);
  assert.match(plan(definition([id, column("v", 2), column("c", 3)], { heaps: { 1: 101 } })), /rewritten/);
  assert.match(plan({ ...definition([id, column("v", 2), column("c", 3)]), traces: null }), /not known/);
});

test("rows that were rewritten without a change of the definition", () => {
  assert.equal(plan(definition(before.columns, { heaps: { 1: 101 } })), "traces", "VACUUM FULL");
  assert.match(
    plan(definition(before.columns, { heaps: { 1: 101 }, rowVersions: { 1: "7", 2: "8" } })),
    /rewritten/,
    "USING",
  );
  const missing = definition(before.columns, { missing: [2], defaults: { 2: 50 } });
  const touched = { heaps: { 1: 101 }, rowVersions: { 1: "7", 2: "8" } };
  assert.equal(
    plan(definition(before.columns, { ...touched, defaults: { 2: 50 } }), missing),
    "traces",
    "VACUUM FULL ends a missing value",
  );
  assert.match(
    plan(definition(before.columns, { ...touched, defaults: { 2: 51 } }), missing),
    /rewritten/,
    "USING too",
  );
});

test("a missing value stays with its column when the catalog forgets it, and never comes later", () => {
  const stored = definition([id, column("v", 2, { missing: "x" })]);
  const change = planSchemaChange(stored, definition([id, column("w", 2)]), { listed: false, emptyLeaves: new Set() });
  assert.ok(change.kind === "version");
  assert.equal(change.columns[1]?.missing, "x");
  const other = planSchemaChange(
    before,
    definition([id, column("w", 2, { missing: "y" }), column("c", 3, { missing: "z" })]),
    {
      listed: false,
      emptyLeaves: new Set(),
    },
  );
  assert.ok(other.kind === "version");
  assert.deepEqual(
    other.columns.map(({ missing }) => missing),
    [undefined, undefined, "z"],
  );
});

test("the identity may be named otherwise, or be told in full, but not be other columns", () => {
  const full = (columns: string[]): ReplicaIdentity => ({ kind: "full", columns });
  assert.match(plan({ ...before, identity: full(["id"]) }), /^version/);
  assert.match(plan({ ...before, identity: full([]) }), /^copy: its key/);
  assert.match(plan({ ...before, identity: { kind: "none" } }), /^copy: its key/);
  assert.match(plan({ ...before, identity: { kind: "key", columns: ["v"] } }), /^copy: its key/);
});

test("types that become wider, and others", () => {
  const numeric = (p: number, s: number) => ((p << 16) | (s & 0x7ff)) + 4;
  const wider = (from: Partial<SourceColumn>, to: Partial<SourceColumn>) =>
    isWidened(column("c", 1, from), column("c", 1, to));
  assert.ok(wider({ typeOid: 1043, typmod: 14 }, { typeOid: 1043, typmod: 24 }));
  assert.ok(wider({ typeOid: 1043, typmod: 14 }, { typeOid: 25 }));
  assert.ok(!wider({ typeOid: 1043, typmod: 24 }, { typeOid: 1043, typmod: 14 }));
  assert.ok(wider({ typeOid: 1700, typmod: numeric(10, 2) }, { typeOid: 1700, typmod: numeric(12, 2) }));
  assert.ok(wider({ typeOid: 1700, typmod: numeric(10, 2) }, { typeOid: 1700, typmod: -1 }));
  assert.ok(!wider({ typeOid: 1700, typmod: numeric(10, 2) }, { typeOid: 1700, typmod: numeric(12, 3) }));
  assert.ok(
    !wider({ typeOid: 1700, typmod: numeric(30, 2) }, { typeOid: 1700, typmod: -1 }),
    "28 digits before the point",
  );
  assert.ok(!wider({ typeOid: 1700, typmod: numeric(38, 2) }, { typeOid: 1700, typmod: numeric(40, 2) }));
  assert.ok(!wider({ typeOid: 23 }, { typeOid: 20 }));
  assert.match(
    plan(definition([id, column("v", 2, { typeOid: 17, typeName: "bytea" })])),
    /another type: text, now bytea/,
  );
});

test("partitions that bring or take rows", () => {
  const parts = (heaps: Record<string, number>, born: number[] = []) =>
    definition(before.columns, { partitioned: true, heaps, born });
  const stored = parts({ 1: 100, 2: 200 });
  assert.equal(plan(parts({ 1: 100, 2: 200, 3: 300 }, [3]), stored), "traces", "made as a partition");
  assert.equal(plan(parts({ 1: 100, 2: 200, 3: 300 }), stored, false, [3]), "traces", "attached empty");
  assert.match(plan(parts({ 1: 100, 2: 200, 3: 300 }), stored), /attached/);
  assert.match(plan(parts({ 1: 100 }), stored), /gone/);
  const again = definition(before.columns, { partitioned: true, heaps: { 1: 100, 2: 200 }, attached: { 1: "8" } });
  assert.match(plan(again, stored), /detached and attached/);
  assert.match(plan(parts({ 1: 100, 2: 201 }), stored), /truncated/);
});

test("columns that look the same and are others", () => {
  assert.ok(looksLike([id, column("v", 2)], [id, column("v", 3)]));
  assert.ok(!looksLike([id, column("v", 2)], [id, column("v", 2)]));
  assert.ok(!looksLike([id, column("v", 2)], [id, column("w", 3)]));
});
