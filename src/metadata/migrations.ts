// Makes and upgrades schema _pg_flo, and proves that what is there is what this version of pg-flo works with.
// It refuses a schema of a newer version (METADATA_VERSION) and one that is not as a migration left it
// (METADATA_CORRUPT). Migrations are files; one that was released never changes: its checksum is kept.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { metadataColumns } from "./columns.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly checksum: string;
  readonly sql: string;
  /** Running workers of the version before cannot live with it: it is applied only when none runs. */
  readonly breaking: boolean;
}

interface Applied {
  readonly version: number;
  readonly name: string;
  readonly checksum: string;
}

export type MetadataShape = "missing" | "older" | "current";

// The same in source and in dist: the build copies the folder beside the compiled module.
const migrationsFolder = join(import.meta.dirname, "migrations");

/** An advisory lock's key is a number of one's own choice; this one is "pg_flo" in ASCII. */
const migrationLockKey = "123589284490351";

/** Waiting for other processes that migrate, which takes as long as their migration. */
const migrationLockTimeoutMs = 60_000;

const liveWorkerMs = 60_000;

/** Reads the migrations `NNNN-name.sql`, in order. INTERNAL: a file with another name, or a gap in the numbers. */
export function loadMigrations(folder: string = migrationsFolder): Migration[] {
  const files = readdirSync(folder).sort();
  return files.map((file, index) => {
    const match = /^(\d{4})-([a-z0-9-]+)\.sql$/.exec(file);
    const version = Number(match?.[1]);
    if (!match || version !== index + 1) {
      throw new PgFloError("INTERNAL", `migration file ${file}, wrong name or number, expected number ${index + 1}`);
    }
    const sql = readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n");
    const checksum = `sha256:${createHash("sha256").update(sql).digest("hex")}`;
    return { version, name: match[2]!, checksum, sql, breaking: /^-- breaking\b/.test(sql) };
  });
}

/**
 * Brings schema _pg_flo to the version of this program, making it first where it is missing, and checks it.
 * Safe when any number of processes start at once; does nothing and takes no lock when nothing is to be done.
 * Errors: METADATA_VERSION, METADATA_CORRUPT, PERMISSION_DENIED, SERVER_BUSY.
 */
export async function openMetadata(db: Queryable, migrations: readonly Migration[] = loadMigrations()): Promise<void> {
  if ((await readShape(db, migrations)) !== "current") {
    await transaction(db, (transaction) => migrate(transaction, migrations), {
      lockTimeoutMs: migrationLockTimeoutMs,
    });
    failpoint("migration.committed");
  }
  await verifyColumns(db);
}

/**
 * For commands that only read: whether schema _pg_flo is there, and at this program's version. Creates nothing.
 * Errors as `openMetadata`.
 */
export async function checkMetadata(db: Queryable): Promise<MetadataShape> {
  const shape = await readShape(db, loadMigrations());
  if (shape === "current") await verifyColumns(db);
  return shape;
}

async function migrate(db: Queryable, migrations: readonly Migration[]): Promise<void> {
  await rows(db, "select pg_advisory_xact_lock($1)", [migrationLockKey]);
  const shape = await readShape(db, migrations); // again: another process may have done it while we waited
  if (shape === "current") return;
  const schema = await row(db, "select 1 from pg_namespace where nspname = '_pg_flo'");
  if (!schema) await rows(db, "create schema _pg_flo"); // `if not exists` would ask for rights that are not needed
  if (shape === "missing") {
    await rows(
      db,
      `create table _pg_flo.migrations (
         version int primary key, name text not null, checksum text not null,
         applied_at timestamptz not null default now())`,
    );
  }
  const applied = await readApplied(db);
  for (const migration of migrations.slice(applied.length)) {
    if (migration.breaking && applied.length > 0) await refuseLiveWorkers(db, migration);
    await rows(db, migration.sql);
    await rows(db, "insert into _pg_flo.migrations (version, name, checksum) values ($1, $2, $3)", [
      migration.version,
      migration.name,
      migration.checksum,
    ]);
    failpoint("migration.applied");
  }
}

async function readShape(db: Queryable, migrations: readonly Migration[]): Promise<MetadataShape> {
  const tables = await rows<{ relname: string }>(
    db,
    `select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = '_pg_flo' and c.relkind in ('r', 'p')`,
  );
  const names = tables.map((table) => table.relname);
  if (!names.includes("migrations")) {
    const ours = names.filter((name) => name in metadataColumns);
    if (ours.length === 0) return "missing";
    throw corrupt(`table migrations is missing, but ${ours.length} other tables of pg-flo are there`);
  }
  const applied = await readApplied(db);
  checkApplied(applied, migrations);
  return applied.length === migrations.length ? "current" : "older";
}

async function readApplied(db: Queryable): Promise<Applied[]> {
  return rows<Applied>(db, "select version, name, checksum from _pg_flo.migrations order by version");
}

function checkApplied(applied: readonly Applied[], migrations: readonly Migration[]): void {
  if (applied.length === 0) throw corrupt("table migrations is empty");
  const newest = applied.at(-1)!;
  if (newest.version > migrations.length) {
    throw new PgFloError(
      "METADATA_VERSION",
      `metadata schema _pg_flo, written by a newer pg-flo, version ${newest.version} (this one knows ${migrations.length})`,
      { facts: { version: newest.version, known: migrations.length } },
    );
  }
  applied.forEach((entry, index) => {
    const migration = migrations[index]!;
    if (entry.version !== migration.version) throw corrupt(`migration ${migration.version} is missing`);
    if (entry.checksum !== migration.checksum) {
      throw corrupt(`migration ${entry.version} has another checksum than this pg-flo's`);
    }
  });
}

async function refuseLiveWorkers(db: Queryable, migration: Migration): Promise<void> {
  const live = await row<{ count: number }>(
    db,
    `select count(*)::int as count from _pg_flo.workers
     where heartbeat_at > clock_timestamp() - $1 * interval '1 millisecond'`,
    [liveWorkerMs],
  );
  if (live && live.count > 0) {
    throw new PgFloError(
      "METADATA_VERSION",
      `metadata schema _pg_flo, needs migration ${migration.version} (${migration.name}), ` +
        `but ${live.count} workers of the version before are running`,
      { fix: "stop all workers, then start this version" },
    );
  }
}

async function verifyColumns(db: Queryable): Promise<void> {
  const found = await rows<{ table: string; column: string }>(
    db,
    `select c.relname as table, a.attname as column
     from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
     where n.nspname = '_pg_flo' and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped`,
  );
  const there = new Set(found.map(({ table, column }) => `${table}.${column}`));
  const missing = Object.entries(metadataColumns).flatMap(([table, columns]) =>
    columns.map((column) => `${table}.${column}`).filter((column) => !there.has(column)),
  );
  if (missing.length > 0) {
    throw corrupt(`${missing.length} columns are missing, the first is ${missing[0]}`);
  }
}

function corrupt(fact: string): PgFloError {
  return new PgFloError("METADATA_CORRUPT", `metadata schema _pg_flo, not as a migration left it, ${fact}`);
}
