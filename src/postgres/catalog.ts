// What the source's catalog says about tables, columns and types.

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
}
