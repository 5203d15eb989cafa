// Keeps a group's own publications as the plan wants them. Refuses to touch a publication that it did not make, and to
// wait long for a lock: ALTER PUBLICATION takes SHARE UPDATE EXCLUSIVE on its tables, and who waits for us would wait too.
// Source: https://www.postgresql.org/docs/current/sql-alterpublication.html
import { setTimeout as sleep } from "node:timers/promises";
import pg, { type ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { type CatalogTable, readCatalogInside } from "./catalog.ts";
import { sqlState, toPgFloError } from "./pg-error.ts";
import {
  changeStatements,
  createStatements,
  desiredPublications,
  firstChanges,
  type OwnPublication,
  optionStatements,
  type PublicationChange,
  type PublicationNames,
  type PublicationOptions,
  type PublishedTable,
  publicationChange,
  publicationComment,
  publicationNames,
} from "./publication-plan.ts";
import type { SelectedTable } from "./selection.ts";

const LOCK_TIMEOUT_MS = 2000;
const ATTEMPTS_MOST = 10;
const ATTEMPT_PAUSE_MS = 500;
const TABLES_PER_TRANSACTION = 1000;
/** First half of the two-part advisory lock key: "pgfl" in ASCII. The second is the hash of the group's name. */
const ADVISORY_CLASS = 0x7067666c;

export interface SyncOptions {
  readonly group: string;
  readonly stream: number;
  readonly tables: readonly SelectedTable[];
  readonly serverVersion: number;
  /** Leaves in what is published and not among `tables`: to be taken out when nobody counts on it any more. */
  readonly keepOthers?: boolean;
}

/**
 * Makes or alters the stream's two publications so that they hold exactly `tables` (copy-only ones excepted), and tells
 * what changed. Does nothing when nothing differs; any number of workers may call it at once. The client must not be in
 * a transaction. Tables that were dropped meanwhile are left out. Errors: PERMISSION_DENIED (a table or the database is
 * not ours to publish), PREFLIGHT_FAILED (a publication of that name is not ours), SERVER_BUSY (locks, or a
 * replica identity changed meanwhile: read the catalog and call again).
 */
export async function syncPublications(client: ClientBase, options: SyncOptions): Promise<PublicationChange[]> {
  const names = publicationNames(options.group, options.stream);
  const subject = `publications of group ${options.group}`;
  await transaction(client, options.group, subject, () => ensurePublications(client, names, options));
  failpoint("publication.created");
  const changes: PublicationChange[] = [];
  for (;;) {
    const done = await transaction(client, options.group, subject, () => changeSomeTables(client, names, options));
    if (done.length === 0) return mergeChanges(changes);
    failpoint("publication.altered");
    changes.push(...done);
  }
}

/** Drops the publications of a group, of all its streams, and tells their names. Only those that pg-flo made. */
export async function dropPublications(client: ClientBase, group: string): Promise<string[]> {
  return transaction(client, group, `publications of group ${group}`, async () => {
    const { rows } = await client.query<{ name: string }>(
      `select p.pubname as name from pg_publication p
       where obj_description(p.oid, 'pg_publication') = $1 order by 1`,
      [publicationComment(group)],
    );
    for (const { name } of rows) await client.query(`DROP PUBLICATION ${pg.escapeIdentifier(name)}`);
    return rows.map(({ name }) => name);
  });
}

async function ensurePublications(client: ClientBase, names: PublicationNames, options: SyncOptions): Promise<void> {
  const current = await readOwnPublications(client, names, options);
  for (const desired of desiredPublications(names, [], options.serverVersion)) {
    const existing = current.find(({ name }) => name === desired.name);
    const statements = existing
      ? optionStatements(existing, desired)
      : createStatements(desired, publicationComment(options.group));
    for (const statement of statements) await client.query(statement);
  }
}

/** One transaction's worth of changes; empty when all is as it should be. */
async function changeSomeTables(
  client: ClientBase,
  names: PublicationNames,
  options: SyncOptions,
): Promise<PublicationChange[]> {
  const desired = await withCurrentNames(client, desiredPublications(names, options.tables, options.serverVersion));
  const current = await readOwnPublications(client, names, options);
  const wanted = new Set(desired.flatMap(({ tables }) => tables.map(({ oid }) => oid)));
  const all = desired.map((publication) => {
    const existing = current.find(({ name }) => name === publication.name);
    if (!existing) throw new PgFloError("SERVER_BUSY", `publication "${publication.name}", somebody just dropped it`);
    const change = publicationChange(existing, publication);
    if (!options.keepOthers) return change;
    return { ...change, removed: change.removed.filter(({ oid }) => wanted.has(oid)) };
  });
  const changes = firstChanges(all, TABLES_PER_TRANSACTION);
  const statements = changeStatements(changes);
  for (const statement of statements) await client.query(statement);
  // The tables are locked against ALTER TABLE now: what we knew of their identities must still be so.
  if (statements.length > 0) await refuseChangedIdentities(client, changes, options.tables);
  failpoint("publication.altering");
  return statements.length === 0 ? [] : changes;
}

/** Names may have changed since the catalog was read, OIDs do not. Tables that are gone are left out. */
async function withCurrentNames(
  client: ClientBase,
  publications: readonly OwnPublication[],
): Promise<OwnPublication[]> {
  const oids = publications.flatMap(({ tables }) => tables.map(({ oid }) => oid));
  const { rows } = await client.query<{ oid: number; schema: string; name: string }>(
    `select c.oid, n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.oid = any ($1::oid[])`,
    [oids],
  );
  const now = new Map(rows.map((row) => [row.oid, row]));
  return publications.map((publication) => ({
    ...publication,
    tables: publication.tables.flatMap((table) => {
      const row = now.get(table.oid);
      return row ? [{ ...table, ...row }] : [];
    }),
  }));
}

interface PublicationRow {
  readonly name: string;
  readonly comment: string | null;
  readonly owner: string;
  readonly row: {
    readonly puballtables: boolean;
    readonly pubinsert: boolean;
    readonly pubupdate: boolean;
    readonly pubdelete: boolean;
    readonly pubtruncate: boolean;
    readonly pubviaroot: boolean;
    readonly pubgencols?: string; // from 18
  };
}

type MemberRow = PublishedTable & { readonly publication: string };

async function readOwnPublications(
  client: ClientBase,
  names: PublicationNames,
  options: SyncOptions,
): Promise<OwnPublication[]> {
  const wanted = [names.all, names.insert];
  const publications = await client.query<PublicationRow>(
    `select p.pubname as name, obj_description(p.oid, 'pg_publication') as comment,
       pg_get_userbyid(p.pubowner) as owner, to_jsonb(p) as row
     from pg_publication p where p.pubname = any ($1)`,
    [wanted],
  );
  for (const { name, comment } of publications.rows) {
    if (comment !== publicationComment(options.group)) throw foreignPublication(name);
  }
  // Column lists came with PostgreSQL 15.
  const columns =
    options.serverVersion < 150000
      ? "null"
      : `case when r.prattrs is not null then array(select a.attname::text from pg_attribute a
           where a.attrelid = r.prrelid and a.attnum = any (r.prattrs) order by a.attnum) end`;
  const members = await client.query<MemberRow>(
    `select p.pubname as publication, c.oid, n.nspname as schema, c.relname as name, ${columns} as columns
     from pg_publication p join pg_publication_rel r on r.prpubid = p.oid join pg_class c on c.oid = r.prrelid
       join pg_namespace n on n.oid = c.relnamespace
     where p.pubname = any ($1) order by n.nspname, c.relname`,
    [wanted],
  );
  return publications.rows.map(({ name, row }) => ({
    name,
    options: publicationOptions(row),
    tables: members.rows.filter((member) => member.publication === name),
  }));
}

function publicationOptions(row: PublicationRow["row"]): PublicationOptions {
  return {
    insert: row.pubinsert,
    update: row.pubupdate,
    delete: row.pubdelete,
    truncate: row.pubtruncate,
    viaRoot: row.pubviaroot,
    generatedStored: row.pubgencols === "s",
  };
}

function foreignPublication(name: string): PgFloError {
  return new PgFloError("PREFLIGHT_FAILED", `publication "${name}", exists and was not made by this group of pg-flo`, {
    fix: `run DROP PUBLICATION ${pg.escapeIdentifier(name)}; at the source, or choose another group name`,
    facts: { publication: name },
  });
}

async function refuseChangedIdentities(
  client: ClientBase,
  changes: readonly PublicationChange[],
  selected: readonly SelectedTable[],
): Promise<void> {
  const planned = new Map(selected.map(({ table }) => [table.oid, table]));
  const fresh = new Map((await readCatalogInside(client)).tables.map((table) => [table.oid, table]));
  for (const { oid, schema, name } of changes.flatMap(({ added, changed }) => [...added, ...changed])) {
    if (identityOf(planned.get(oid)) === identityOf(fresh.get(oid))) continue;
    throw new PgFloError(
      "SERVER_BUSY",
      `table ${schema}.${name}, its replica identity changed while it was published`,
      {
        fix: "nothing, pg-flo reads the catalog again and goes on",
      },
    );
  }
}

function identityOf(table: CatalogTable | undefined): string {
  return JSON.stringify([table?.identity, table?.columnListAllowed, table?.identityColumns]);
}

/** Runs `work` in a transaction that holds the group's advisory lock, again and again while locks are not to be had. */
async function transaction<Result>(
  client: ClientBase,
  group: string,
  subject: string,
  work: () => Promise<Result>,
): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query("begin");
      await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
      await client.query("select pg_advisory_xact_lock($1, hashtext($2))", [ADVISORY_CLASS, group]);
      const result = await work();
      await client.query("commit");
      return result;
    } catch (error) {
      const failure = toPgFloError(error, subject);
      try {
        await client.query("rollback");
      } catch {
        throw failure; // the connection is gone, and the transaction with it
      }
      const lockMissed = sqlState(error) === "55P03" || sqlState(error) === "40P01";
      if (!lockMissed || attempt >= ATTEMPTS_MOST) throw failure;
    }
    await sleep(ATTEMPT_PAUSE_MS);
  }
}

function mergeChanges(parts: readonly PublicationChange[]): PublicationChange[] {
  return [...Map.groupBy(parts, ({ publication }) => publication)].map(([publication, group]) => ({
    publication,
    added: group.flatMap(({ added }) => added),
    removed: group.flatMap(({ removed }) => removed),
    changed: group.flatMap(({ changed }) => changed),
  }));
}
