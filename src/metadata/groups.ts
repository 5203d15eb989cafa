// A group: one pipeline from one source database to one storage. Owns the rows of _pg_flo.groups, and the end of
// everything else of a group. It refuses to let one name stand for two sources or two storages.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { metadataColumns } from "./columns.ts";
import { checkMetadata } from "./migrations.ts";
import { type Queryable, row, rows, sqlStateOf, transaction } from "./queryable.ts";

export interface Group {
  readonly name: string;
  /** Of the source's cluster, from IDENTIFY_SYSTEM or pg_control_system(): an unsigned 64-bit number as text. */
  readonly systemIdentifier: string;
  readonly sourceDatabase: string;
  /** Without secrets. */
  readonly storageUrl: string;
  readonly createdAt: Date;
}

const groupColumns = `name, system_identifier as "systemIdentifier", source_database as "sourceDatabase",
  storage_url as "storageUrl", created_at as "createdAt"`;

/**
 * Makes the group at its first start and gives it back at later ones. Any number of workers may do it at once.
 * CONFIG_INVALID: the name belongs to another source or another storage.
 */
export async function registerGroup(db: Queryable, group: Omit<Group, "createdAt">): Promise<Group> {
  await rows(
    db,
    `insert into _pg_flo.groups (name, system_identifier, source_database, storage_url) values ($1, $2, $3, $4)
     on conflict (name) do nothing`,
    [group.name, group.systemIdentifier, group.sourceDatabase, group.storageUrl],
  );
  const stored = await row<Group>(db, `select ${groupColumns} from _pg_flo.groups where name = $1`, [group.name]);
  if (!stored) throw new PgFloError("GROUP_MISSING", `group ${group.name}, dropped while this worker was starting`);
  refuseOther(group.name, "source cluster", stored.systemIdentifier, group.systemIdentifier);
  refuseOther(group.name, "source database", stored.sourceDatabase, group.sourceDatabase);
  refuseOther(group.name, "storage", stored.storageUrl, group.storageUrl);
  return stored;
}

function refuseOther(group: string, what: string, stored: string, given: string): void {
  if (stored === given) return;
  throw new PgFloError("CONFIG_INVALID", `group ${group}, belongs to another ${what}, ${stored} and not ${given}`, {
    fix: `choose another group name, or run pg-flo drop for group ${group} first`,
    facts: { group, stored, given },
  });
}

/**
 * For commands that must not create anything (status, query, drop).
 * Errors: GROUP_MISSING (also when there is no schema _pg_flo at all), METADATA_VERSION, METADATA_CORRUPT.
 */
export async function readGroup(db: Queryable, name: string): Promise<Group> {
  const shape = await checkMetadata(db);
  if (shape === "older") {
    throw new PgFloError("METADATA_VERSION", "metadata schema _pg_flo, older than this pg-flo", {
      fix: "run pg-flo replicate of this version once, it brings the schema up to date",
    });
  }
  const group =
    shape === "missing"
      ? undefined
      : await row<Group>(db, `select ${groupColumns} from _pg_flo.groups where name = $1`, [name]);
  if (!group) throw new PgFloError("GROUP_MISSING", `group ${name}, not known to the metadata database, 0 rows`);
  return group;
}

export interface DroppedGroup {
  /** False when there was nothing of that group. */
  readonly existed: boolean;
  /** True when schema _pg_flo is gone: it was the last group's, and nothing of other people depended on it. */
  readonly schemaDropped: boolean;
}

/**
 * Deletes every row of the group, and schema _pg_flo with the last group. Works on a damaged schema too, as the fix of
 * METADATA_CORRUPT promises. What others built on the schema (a view on _pg_flo.files, say) is never dropped: then the
 * empty schema stays. METADATA_VERSION: a newer pg-flo wrote it. Slots, publications and files are the caller's.
 */
export async function dropGroup(db: Queryable, name: string): Promise<DroppedGroup> {
  await refuseNewer(db);
  return transaction(db, async (transaction) => {
    const tables = await lockTables(transaction);
    const existed = await anyRow(transaction, tables, "=", name);
    const others = await anyRow(transaction, tables, "<>", name);
    const schemaDropped = tables.length > 0 && !others && (await dropSchema(transaction, tables));
    if (existed && !schemaDropped) await deleteRows(transaction, tables, name);
    failpoint("drop.in-metadata");
    return { existed, schemaDropped };
  });
}

// A damaged schema may be dropped, a newer one may not: its further tables are not known here.
async function refuseNewer(db: Queryable): Promise<void> {
  try {
    await checkMetadata(db);
  } catch (error) {
    if (!(error instanceof PgFloError) || error.code !== "METADATA_CORRUPT") throw error;
  }
}

interface LockedTable {
  readonly table: string;
  /** The column with the group's name; null where there is none. */
  readonly column: string | null;
}

// The exclusive lock keeps others from registering a group between the last look and the end of the schema.
// Children first, so that deleting needs no cascade and a missing table does not matter.
async function lockTables(db: Queryable): Promise<LockedTable[]> {
  const order = [
    ...["groups", "streams", "tables", "copy_ranges", "compactions", "workers", "snapshots", "files", "retired_files"],
    ...["table_versions", "events"],
  ];
  const there = await rows<LockedTable>(
    db,
    `select c.relname as table, (select a.attname from pg_attribute a where a.attrelid = c.oid
       and not a.attisdropped and a.attname = case c.relname when 'groups' then 'name' else 'group_name' end) as column
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = '_pg_flo' and c.relkind in ('r', 'p') and c.relname = any($1)`,
    [Object.keys(metadataColumns)],
  );
  const sorted = there.sort((left, right) => order.indexOf(left.table) - order.indexOf(right.table));
  for (const { table } of sorted) await rows(db, `lock table _pg_flo."${table}" in access exclusive mode`);
  return sorted.reverse();
}

async function anyRow(db: Queryable, tables: readonly LockedTable[], operator: "=" | "<>", name: string) {
  for (const { table, column } of tables) {
    if (!column) continue;
    const found = await row(db, `select 1 from _pg_flo."${table}" where "${column}" ${operator} $1 limit 1`, [name]);
    if (found) return true;
  }
  return false;
}

async function deleteRows(db: Queryable, tables: readonly LockedTable[], name: string): Promise<void> {
  for (const { table, column } of tables) {
    if (column) await rows(db, `delete from _pg_flo."${table}" where "${column}" = $1`, [name]);
  }
}

async function dropSchema(db: Queryable, tables: readonly LockedTable[]): Promise<boolean> {
  await rows(db, "savepoint before_schema");
  try {
    await rows(db, `drop table ${tables.map(({ table }) => `_pg_flo."${table}"`).join(", ")} restrict`);
    await rows(db, "drop schema _pg_flo restrict");
    return true;
  } catch (error) {
    if (sqlStateOf(error) !== "2BP01") throw error; // dependent_objects_still_exist
    await rows(db, "rollback to savepoint before_schema");
    return false;
  }
}
