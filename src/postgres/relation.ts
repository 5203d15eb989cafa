// What a Relation or Type message says about a table or a type: the names behind the numbers of the changes after it.
// Sources: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html

/** One column of a Relation message, in the order of the tuples' values. */
export interface RelationColumn {
  /** 1: part of the replica identity. */
  readonly flags: number;
  readonly name: string;
  readonly typeOid: number;
  /** pg_attribute.atttypmod; -1 for none. */
  readonly typmod: number;
}

export interface Relation {
  readonly oid: number;
  /** Empty for pg_catalog. */
  readonly schema: string;
  readonly name: string;
  /** pg_class.relreplident: default, nothing, full, index. */
  readonly replicaIdentity: "d" | "n" | "f" | "i";
  readonly columns: readonly RelationColumn[];
}

/** A type that is not built in; sent before the Relation that uses it. */
export interface RelationType {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
}
