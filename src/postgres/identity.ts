// Which columns name a row in the log, decided exactly as the server decides it, and why not when there are none.
// It matters twice: a wrong answer of "has one" makes the application's own UPDATE and DELETE fail once the table is
// published, a wrong answer of "has none" loses updates. Checked against live servers 14 to 18.
// Source: https://www.postgresql.org/docs/current/logical-replication-publication.html#LOGICAL-REPLICATION-PUBLICATION-REPLICA-IDENTITY
import pg from "pg";
import type { ReplicaIdentity } from "./catalog.ts";

export type IdentityReason =
  | "no-primary-key"
  | "nothing"
  /** The server does not take a DEFERRABLE primary key as identity. */
  | "deferrable-primary-key"
  | "identity-index-missing"
  /** A generated column is part of the key, and this server does not send generated columns. */
  | "generated-key"
  /** REPLICA IDENTITY FULL with a virtual generated column: PostgreSQL 18 then refuses every published UPDATE. */
  | "virtual-column-under-full"
  /** A partition's identity is not the one of its root: the log names rows by other columns than the stream says. */
  | "partition-differs";

/** Why a table has no usable identity, at which relation (the table or one of its leaves), and the SQL that mends it. */
export interface IdentityProblem {
  readonly reason: IdentityReason;
  readonly schema: string;
  readonly name: string;
  readonly fix: string;
}

/** What the catalog says about one relation, as far as its identity goes. */
export interface IdentityFacts {
  readonly schema: string;
  readonly name: string;
  /** pg_class.relreplident: d default, n nothing, f full, i index. */
  readonly replicaIdentity: string;
  /** Valid ones only. */
  readonly indexes: readonly IdentityIndex[];
}

export interface IdentityIndex {
  readonly primary: boolean;
  readonly replicaIdentity: boolean;
  readonly immediate: boolean;
  /** Key columns (not INCLUDE) in attnum order. */
  readonly columns: readonly string[];
}

export interface TableIdentity {
  readonly identity: ReplicaIdentity;
  readonly problem: IdentityProblem | null;
  /** The table or a leaf of it is REPLICA IDENTITY FULL: with a column list the server would refuse updates. */
  readonly columnListAllowed: boolean;
  /** Every column that is in the identity of the table or of a leaf: a column list must hold them all. */
  readonly identityColumns: readonly string[];
}

/**
 * The identity of a table with its leaves (none for an ordinary table). `generated` are the table's generated columns;
 * leaves have the same. UPDATE and DELETE are checked and logged by the leaf's identity, but arrive under the root's
 * name and with the root's key: so both must be the same, or the leaf FULL under a root with a key.
 */
export function resolveIdentity(
  root: IdentityFacts,
  leaves: readonly IdentityFacts[],
  generated: ReadonlyMap<string, "s" | "v">,
  serverVersion: number,
): TableIdentity {
  const own = ownIdentity(root, generated, serverVersion);
  const leafIdentities = leaves.map((leaf) => ownIdentity(leaf, generated, serverVersion));
  const all = [own, ...leafIdentities];
  const problem =
    all.find((each) => each.problem !== null)?.problem ?? leafProblem(root, own.identity, leaves, leafIdentities);
  return {
    identity: problem === null ? own.identity : { kind: "none" },
    problem,
    columnListAllowed: [root, ...leaves].every((relation) => relation.replicaIdentity !== "f"),
    identityColumns: [
      ...new Set(all.flatMap(({ identity }) => (identity.kind === "key" ? identity.columns : []))),
    ].sort(),
  };
}

interface OwnIdentity {
  readonly identity: ReplicaIdentity;
  readonly problem: IdentityProblem | null;
}

function leafProblem(
  root: IdentityFacts,
  rootIdentity: ReplicaIdentity,
  leaves: readonly IdentityFacts[],
  leafIdentities: readonly OwnIdentity[],
): IdentityProblem | null {
  for (const [index, { identity }] of leafIdentities.entries()) {
    const leaf = leaves[index]!;
    if (rootIdentity.kind === "full" && identity.kind !== "full") {
      return problemOf(leaf, "partition-differs", `ALTER TABLE ${quoted(leaf)} REPLICA IDENTITY FULL;`);
    }
    if (rootIdentity.kind === "key" && identity.kind === "key" && !sameColumns(rootIdentity, identity)) {
      const fix = `ALTER TABLE ${quoted(leaf)} REPLICA IDENTITY ${root.replicaIdentity === "d" ? "DEFAULT" : "FULL"};`;
      return problemOf(leaf, "partition-differs", fix);
    }
  }
  return null;
}

function ownIdentity(
  relation: IdentityFacts,
  generated: ReadonlyMap<string, "s" | "v">,
  serverVersion: number,
): OwnIdentity {
  const primaryKey = relation.indexes.find((index) => index.primary);
  const toFull = `ALTER TABLE ${quoted(relation)} REPLICA IDENTITY FULL;`;
  const none = (reason: IdentityReason, fix: string): OwnIdentity => ({
    identity: { kind: "none" },
    problem: problemOf(relation, reason, fix),
  });
  const sendsGenerated = serverVersion >= 180000;
  const unsent = (columns: readonly string[]) => !sendsGenerated && columns.some((column) => generated.has(column));

  if (relation.replicaIdentity === "f") {
    if (sendsGenerated && [...generated.values()].includes("v")) {
      return none("virtual-column-under-full", `ALTER TABLE ${quoted(relation)} REPLICA IDENTITY DEFAULT;`);
    }
    const usable = primaryKey?.immediate && !unsent(primaryKey.columns);
    return { identity: { kind: "full", columns: usable ? primaryKey.columns : [] }, problem: null };
  }
  if (relation.replicaIdentity === "n") {
    return none(
      "nothing",
      primaryKey?.immediate ? `ALTER TABLE ${quoted(relation)} REPLICA IDENTITY DEFAULT;` : toFull,
    );
  }
  const index = relation.replicaIdentity === "i" ? relation.indexes.find((each) => each.replicaIdentity) : primaryKey;
  if (index === undefined) {
    return relation.replicaIdentity === "i"
      ? none("identity-index-missing", toFull)
      : none("no-primary-key", `ALTER TABLE ${quoted(relation)} ADD PRIMARY KEY (…); or ${toFull}`);
  }
  if (!index.immediate) return none("deferrable-primary-key", toFull);
  if (unsent(index.columns)) return none("generated-key", toFull);
  return { identity: { kind: "key", columns: index.columns }, problem: null };
}

function sameColumns(a: { readonly columns: readonly string[] }, b: { readonly columns: readonly string[] }): boolean {
  // attnums of a leaf may be in another order than the root's.
  const names = new Set(a.columns);
  return names.size === b.columns.length && b.columns.every((column) => names.has(column));
}

function problemOf(relation: IdentityFacts, reason: IdentityReason, fix: string): IdentityProblem {
  return { reason, schema: relation.schema, name: relation.name, fix };
}

function quoted(relation: { readonly schema: string; readonly name: string }): string {
  return `${pg.escapeIdentifier(relation.schema)}.${pg.escapeIdentifier(relation.name)}`;
}
