// What the source's catalog says about tables, columns and types. Reads all of it in a constant number of queries,
// however many tables there are. Refuses to guess: relations that cannot be mirrored are told apart, with the reason.
// Source: https://www.postgresql.org/docs/current/catalogs.html
import type { ClientBase } from "pg";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import {
  bornSql,
  columnTraces,
  type DefinitionTraces,
  heapTraces,
  type LeafMissing,
  leafMissingSql,
  missingText,
  rootMissing,
} from "./definition-traces.ts";
import { type IdentityFacts, type IdentityIndex, type IdentityProblem, resolveIdentity } from "./identity.ts";

/** One row of pg_type, as much of it as values and arrays need. */
export interface PgType {
  readonly oid: number;
  readonly name: string; // format_type(oid, null)
  readonly schema: string;
  readonly typname: string;
  /** pg_type.typtype: b base, c composite, d domain, e enum, p pseudo, r range, m multirange */
  readonly kind: "b" | "c" | "d" | "e" | "p" | "r" | "m";
  /** Element type of a true array (typsubscript = array_subscript_handler and typlen = -1), else 0. */
  readonly elementOid: number;
  /** Base type and its typmod of a domain, else 0 and -1. */
  readonly baseOid: number;
  readonly baseTypmod: number;
  readonly hasSend: boolean;
  /** Subtype of a range, range of a multirange, else 0. */
  readonly subtypeOid?: number;
  /** Attributes of a composite, in the order of its values; null for other types, and for rows of tables that no column has. */
  readonly fields?: readonly TypeField[] | null;
  /** Of an enum. */
  readonly labels?: readonly { readonly oid: number; readonly label: string }[] | null;
  /** Between an array's elements of this type: pg_type.typdelim. A comma when absent. */
  readonly delimiter?: string;
  /** The extension that the type belongs to. */
  readonly extension?: string | null;
  /** Of money: digits behind the point, which lc_monetary decides. Else null. */
  readonly moneyScale?: number | null;
}

export interface TypeField {
  readonly name: string;
  readonly attnum: number;
  readonly typeOid: number;
  readonly typmod: number;
}

export interface SourceColumn {
  readonly name: string;
  readonly attnum: number;
  readonly typeOid: number;
  readonly typmod: number;
  /** format_type(typeOid, typmod), e.g. `numeric(12,2)`. */
  readonly typeName: string;
  readonly notNull: boolean;
  /** '' ordinary, 's' stored generated, 'v' virtual generated. */
  readonly generated: "" | "s" | "v";
  /** The database is SQL_ASCII: its text may be bytes that are no UTF-8. */
  readonly anyBytes?: true;
  /** How the config wants it in the files (src/types/written-as.ts); absent: as the portable profile has it. */
  readonly writtenAs?: string;
  /** What its values are made of (type-parts.ts); absent: nothing that could change by itself. */
  readonly typeParts?: Readonly<Record<string, string>>;
  /**
   * The text of what rows have that are older than the column: a constant default of ADD COLUMN, which is written into
   * no row (pg_attribute.attmissingval). Absent: NULL.
   */
  readonly missing?: string;
}

/** How UPDATE and DELETE name their row in the log. */
export type ReplicaIdentity =
  /** The columns of the primary key or of the REPLICA IDENTITY index, in attnum order. */
  | { readonly kind: "key"; readonly columns: readonly string[] }
  /** Every old column is in the log. `columns` is the primary key if there is one, else empty. */
  | { readonly kind: "full"; readonly columns: readonly string[] }
  /** NOTHING, or DEFAULT without a primary key: updates and deletes cannot be seen. */
  | { readonly kind: "none" };

/** A relation that holds rows: the table itself, or a leaf partition of it. */
export interface HeapRelation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly relfilenode: number;
  readonly hasToast: boolean;
}

export interface SourceTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: "table" | "partitioned";
  readonly identity: ReplicaIdentity;
  /** Columns that are mirrored, in attnum order (after include/exclude), dropped ones left out. */
  readonly columns: readonly SourceColumn[];
  /** True when `columns` is not the whole table. */
  readonly filtered: boolean;
  /** The table itself, or its leaves. */
  readonly heaps: readonly HeapRelation[];
  readonly traces: DefinitionTraces;
}

/** A table as the catalog has it: all its columns, and what a publication must know of its identity. */
export interface CatalogTable extends SourceTable {
  /** Why `identity.kind` is none; null when it is not. */
  readonly identityProblem: IdentityProblem | null;
  /** False when the table or a leaf is REPLICA IDENTITY FULL. */
  readonly columnListAllowed: boolean;
  /** Identity columns of the table and of all its leaves: always mirrored. */
  readonly identityColumns: readonly string[];
}

export type OtherReason =
  | "view"
  | "materialized view"
  | "foreign table"
  | "unlogged table"
  | "table of an extension"
  | "partition"
  | "partitioned table with a foreign partition"
  | "partitioned table with an unlogged partition";

/** A relation that is not mirrored by itself. `related` is a partition's root, or the partition that is in the way. */
export interface OtherRelation {
  readonly schema: string;
  readonly name: string;
  readonly reason: OtherReason;
  readonly related: { readonly schema: string; readonly name: string } | null;
}

export interface Catalog {
  /** server_version_num, e.g. 180004 */
  readonly serverVersion: number;
  /** Schemas that may be mirrored, also empty ones. */
  readonly schemas: readonly string[];
  /** By schema and name. */
  readonly tables: readonly CatalogTable[];
  readonly others: readonly OtherRelation[];
}

/** The whole catalog at one moment, in four queries in a transaction of its own (the client must not be in one). */
export async function readCatalog(client: ClientBase): Promise<Catalog> {
  await client.query("begin transaction isolation level repeatable read read only");
  try {
    return await readCatalogInside(client);
  } finally {
    await client.query("rollback");
  }
}

/** The same inside the caller's transaction, whose search_path becomes pg_catalog so that type names are qualified. */
export async function readCatalogInside(client: ClientBase): Promise<Catalog> {
  const server = await client.query<{ version: string; encoding: string; schemas: string[] }>(`
    select current_setting('server_version_num') as version, set_config('search_path', 'pg_catalog', true),
      current_setting('server_encoding') as encoding,
      array(select nspname::text from pg_namespace where ${mirrored("nspname")} order by 1) as schemas`);
  const relations = (await client.query<RelationRow>(relationsSql)).rows;
  const anyBytes = server.rows[0]!.encoding === "SQL_ASCII" ? ({ anyBytes: true } as const) : {};
  const columnRows = (await client.query<ColumnRow>(columnsSql)).rows.map((row) => ({ ...row, ...anyBytes }));
  const columns = groupBy<ColumnRow>(columnRows, (row) => row.relation);
  const indexes = groupBy((await client.query<IndexRow>(indexesSql)).rows, (row) => row.relation);
  const serverVersion = Number(server.rows[0]!.version);
  const leaves = leavesByRoot(relations);
  const leafMissing = groupBy((await client.query<LeafMissing>(leafMissingSql)).rows, (row) => row.relation);
  const tables: CatalogTable[] = [];
  const others: OtherRelation[] = [];
  for (const relation of relations) {
    const other = otherRelation(relation, leaves);
    if (other) others.push(other);
    else {
      const own = leaves.heaps.get(relation.oid) ?? [];
      const found = { columnRows: columns.get(relation.oid) ?? [], indexes, leafMissing, chainOf: leaves.chainOf };
      tables.push(catalogTable(relation, own, found, serverVersion));
    }
  }
  return { serverVersion, schemas: server.rows[0]!.schemas, tables, others };
}

/** The tables of `readCatalog`. */
export async function readTables(client: ClientBase): Promise<CatalogTable[]> {
  return [...(await readCatalog(client)).tables];
}

/** Every type of the database by OID, in one query. */
export async function readTypes(client: ClientBase): Promise<Map<number, PgType>> {
  const { rows } = await client.query<PgType>(`
    with used (oid) as (
      select atttypid from pg_attribute where attnum > 0 and not attisdropped
      union select typbasetype from pg_type union select rngsubtype from pg_range)
    select t.oid, format_type(t.oid, null) as name, n.nspname as schema, t.typname, t.typtype as kind,
      case when t.typsubscript = 'array_subscript_handler'::regproc and t.typlen = -1 then t.typelem else 0 end
        as "elementOid",
      t.typbasetype as "baseOid", case when t.typtype = 'd' then t.typtypmod else -1 end as "baseTypmod",
      t.typdelim as delimiter, t.typsend <> 0 as "hasSend", coalesce(r.rngsubtype, m.rngtypid, 0)::oid as "subtypeOid", e.extname as extension,
      case when t.oid = 'money'::regtype then scale(1::money::numeric) end as "moneyScale",
      case when t.typtype = 'c' and (c.relkind = 'c' or t.oid in (select oid from used) or t.typarray in (select oid from used))
        then coalesce((select json_agg(json_build_object('name', attname, 'attnum', attnum, 'typeOid', atttypid::int8, 'typmod', atttypmod)
          order by attnum) from pg_attribute where attrelid = t.typrelid and attnum > 0 and not attisdropped), '[]')
        end as fields,
      (select json_agg(json_build_object('oid', oid::int8, 'label', enumlabel) order by oid) from pg_enum where enumtypid = t.oid) as labels
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
      left join pg_class c on c.oid = t.typrelid
      left join pg_range r on r.rngtypid = t.oid left join pg_range m on m.rngmultitypid = t.oid
      left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
        and d.refclassid = 'pg_extension'::regclass
      left join pg_extension e on e.oid = d.refobjid`);
  return new Map(rows.map((row) => [row.oid, row]));
}

interface RelationRow {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: "r" | "p" | "f" | "v" | "m";
  readonly persistence: "p" | "u";
  readonly partition: boolean;
  readonly parent: number | null;
  readonly replicaIdentity: string;
  readonly hasToast: boolean;
  readonly relfilenode: number;
  readonly extension: boolean;
  readonly lastAttnum: number;
  readonly attachedBy: string | null;
  readonly born: boolean;
}

type ColumnRow = SourceColumn & {
  readonly relation: number;
  readonly rowVersion: string;
  readonly missingArray: string | null;
  readonly def: number | null;
};
type IndexRow = IdentityIndex & { readonly relation: number };

/** Never mirrored: the server's own schemas, other sessions' temporary tables, our metadata. */
function mirrored(schema: string): string {
  return `(${schema} !~ '^pg_' and ${schema} not in ('information_schema', '${METADATA_SCHEMA}'))`;
}

// relfilenode as the transaction sees it: pg_relation_filenode() would tell the one of now, beside columns of before. A
// partition whose DETACH CONCURRENTLY has begun is none any more, to the log and to new queries.
const relationsSql = `
  select c.oid, n.nspname as schema, c.relname as name, c.relkind as kind, c.relpersistence as persistence,
    c.relispartition as partition, i.inhparent as parent, c.relreplident as "replicaIdentity",
    c.reltoastrelid <> 0 as "hasToast", c.relfilenode,
    c.relnatts as "lastAttnum", i.xmin::text as "attachedBy", ${bornSql},
    exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
      and d.deptype = 'e') as extension
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_inherits i on i.inhrelid = c.oid and c.relispartition and not i.inhdetachpending
  where c.relkind in ('r', 'p', 'f', 'v', 'm') and c.relpersistence <> 't' and ${mirrored("n.nspname")}
  order by n.nspname, c.relname`;

const columnsSql = `
  select a.attrelid as relation, a.attname as name, a.attnum, a.atttypid as "typeOid", a.atttypmod as typmod,
    format_type(a.atttypid, a.atttypmod) as "typeName", a.attnotnull as "notNull", a.attgenerated as generated,
    a.xmin::text as "rowVersion", a.attmissingval::text as "missingArray", d.oid as def
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p') and not c.relispartition
    and c.relpersistence = 'p' and ${mirrored("n.nspname")}
  order by a.attrelid, a.attnum`;

// Partial, invalid and expression indexes are no identity for the server either.
const indexesSql = `
  select i.indrelid as relation, i.indisprimary as "primary", i.indisreplident as "replicaIdentity",
    i.indimmediate as immediate,
    array(select a.attname::text from pg_attribute a where a.attrelid = i.indrelid
      and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]) order by a.attnum) as columns
  from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
  where (i.indisprimary or i.indisreplident) and i.indisvalid and i.indpred is null and ${mirrored("n.nspname")}
  order by i.indrelid, i.indisprimary desc`;

interface Leaves {
  /** Root OID to the relations that hold its rows. */
  readonly heaps: ReadonlyMap<number, readonly RelationRow[]>;
  readonly rootOf: (relation: RelationRow) => RelationRow | undefined;
  /** A partition, then the partitions that it is in, without the root. */
  readonly chainOf: (relation: RelationRow) => readonly RelationRow[];
}

function leavesByRoot(relations: readonly RelationRow[]): Leaves {
  const byOid = new Map(relations.map((relation) => [relation.oid, relation]));
  const rootOf = (relation: RelationRow): RelationRow | undefined => {
    let at: RelationRow | undefined = relation;
    while (at?.partition) at = at.parent === null ? undefined : byOid.get(at.parent);
    return at;
  };
  const chainOf = (relation: RelationRow): readonly RelationRow[] => {
    const parent = relation.parent === null ? undefined : byOid.get(relation.parent);
    if (!relation.partition) return [];
    return parent ? [relation, ...chainOf(parent)] : [relation];
  };
  const heaps = new Map<number, RelationRow[]>();
  for (const relation of relations) {
    if (!relation.partition || relation.kind === "p") continue;
    const root = rootOf(relation);
    if (!root) continue;
    const leaves = heaps.get(root.oid);
    if (leaves) leaves.push(relation);
    else heaps.set(root.oid, [relation]);
  }
  return { heaps, rootOf, chainOf };
}

function otherRelation(relation: RelationRow, leaves: Leaves): OtherRelation | undefined {
  const other = (reason: OtherReason, related: RelationRow | undefined = undefined): OtherRelation => ({
    schema: relation.schema,
    name: relation.name,
    reason,
    related: related ? { schema: related.schema, name: related.name } : null,
  });
  if (relation.partition) return other("partition", leaves.rootOf(relation));
  if (relation.extension) return other("table of an extension");
  if (relation.kind === "v") return other("view");
  if (relation.kind === "m") return other("materialized view");
  if (relation.kind === "f") return other("foreign table");
  if (relation.persistence === "u") return other("unlogged table");
  const own = leaves.heaps.get(relation.oid) ?? [];
  const foreign = own.find((leaf) => leaf.kind === "f");
  if (foreign) return other("partitioned table with a foreign partition", foreign);
  const unlogged = own.find((leaf) => leaf.persistence === "u");
  if (unlogged) return other("partitioned table with an unlogged partition", unlogged);
  return undefined;
}

interface FoundParts {
  readonly columnRows: readonly ColumnRow[];
  readonly indexes: ReadonlyMap<number, readonly IndexRow[]>;
  readonly leafMissing: ReadonlyMap<number, readonly LeafMissing[]>;
  readonly chainOf: Leaves["chainOf"];
}

function catalogTable(
  relation: RelationRow,
  leaves: readonly RelationRow[],
  { columnRows, indexes, leafMissing, chainOf }: FoundParts,
  serverVersion: number,
): CatalogTable {
  const partitioned = relation.kind === "p";
  const missingOf = ({ name, missingArray }: ColumnRow) =>
    partitioned ? rootMissing(name, leaves, leafMissing) : missingText(missingArray);
  const columns = columnRows.map((row): SourceColumn => {
    const { relation: _, rowVersion: __, def: ___, missingArray: ____, ...column } = row;
    const missing = missingOf(row);
    return typeof missing === "string" ? { ...column, missing } : column;
  });
  const generated = new Map(
    columns.flatMap(({ name, generated: kind }) => (kind === "" ? [] : [[name, kind] as const])),
  );
  const facts = (each: RelationRow): IdentityFacts => ({ ...each, indexes: indexes.get(each.oid) ?? [] });
  const { problem, ...resolved } = resolveIdentity(facts(relation), leaves.map(facts), generated, serverVersion);
  const heaps = partitioned ? leaves : [relation];
  return {
    oid: relation.oid,
    schema: relation.schema,
    name: relation.name,
    kind: partitioned ? "partitioned" : "table",
    columns,
    filtered: false,
    heaps: heaps.map(({ oid, schema, name, relfilenode, hasToast }) => ({ oid, schema, name, relfilenode, hasToast })),
    traces: {
      ...columnTraces(relation.lastAttnum, columnRows),
      ...heapTraces(partitioned, heaps, chainOf),
      varying: columnRows.filter((row) => missingOf(row) === null).map(({ attnum }) => attnum),
    },
    ...resolved,
    identityProblem: problem,
  };
}

function groupBy<Row>(rows: readonly Row[], key: (row: Row) => number): Map<number, Row[]> {
  const groups = new Map<number, Row[]>();
  for (const row of rows) {
    const group = groups.get(key(row));
    if (group) group.push(row);
    else groups.set(key(row), [row]);
  }
  return groups;
}
