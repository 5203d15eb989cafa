// Catalog tables for pure tests.
import type { Catalog, CatalogTable, ReplicaIdentity, SourceColumn } from "../../src/postgres/catalog.ts";

/** `columns` are names; a suffix `:s` or `:v` makes a generated one. The OID comes from the names. */
export function catalogTable(
  name: string,
  columns: readonly string[],
  more: Partial<CatalogTable> & { readonly key?: readonly string[] } = {},
): CatalogTable {
  const { key, ...rest } = more;
  const schema = rest.schema ?? "public";
  const oid = [...`${schema}.${name}`].reduce((hash, letter) => (hash * 31 + letter.charCodeAt(0)) % 1_000_003, 16384);
  const identity: ReplicaIdentity = rest.identity ?? (key ? { kind: "key", columns: key } : { kind: "none" });
  return {
    oid,
    schema,
    name,
    kind: "table",
    identity,
    columns: columns.map(column),
    filtered: false,
    heaps: [{ oid, schema, name, relfilenode: oid, hasToast: true }],
    traces: {
      lastAttnum: columns.length,
      missing: [],
      defaults: {},
      partitioned: false,
      heaps: { [oid]: oid },
      rowVersions: {},
      attached: {},
      born: [],
      varying: [],
    },
    identityProblem: identity.kind === "none" ? { reason: "no-primary-key", schema, name, fix: "ALTER …" } : null,
    columnListAllowed: identity.kind !== "full",
    identityColumns: identity.kind === "key" ? identity.columns : [],
    ...rest,
  };
}

export function catalogOf(tables: readonly CatalogTable[], more: Partial<Catalog> = {}): Catalog {
  const schemas = [...new Set(tables.map(({ schema }) => schema))];
  return { serverVersion: 180000, schemas, tables, others: [], ...more };
}

function column(text: string, index: number): SourceColumn {
  const [name = "", generated = ""] = text.split(":");
  return {
    name,
    attnum: index + 1,
    typeOid: 25,
    typmod: -1,
    typeName: "text",
    notNull: false,
    generated: generated as SourceColumn["generated"],
  };
}
