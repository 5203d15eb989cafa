// What the files say a table's rows are: the files that the manifest lists, read by DuckDB, each row as one JSON array
// of canonical texts in the order of the table's newest columns. Leaves table `mirror (row, n)`: n of each row.
import type { ManifestTable } from "../metadata/status.ts";
import type { TableColumn } from "../metadata/tables.ts";
import { canonicalSql, printedSql, type TextFamily } from "./canonical-text.ts";
import { type ReplayedChange, type ReplayedTable, replayTransaction } from "./replay.ts";
import { quoteName, quoteText, type ScratchDatabase } from "./scratch-database.ts";

export interface ComparedColumn {
  readonly column: TableColumn;
  /** Asks the source for a value as the files tell it. */
  readonly sql: string;
  readonly family: TextFamily;
  /** The text, as the source prints it, of what rows have that are older than the column; null for NULL. */
  readonly missing: string | null;
}

export interface MirrorSource {
  readonly entry: ManifestTable;
  readonly columns: readonly ComparedColumn[];
  /** Positions in `columns` of what names a row; empty when nothing or all of it does. */
  readonly key: readonly number[];
  readonly storageRoot: string;
}

/** Fills `mirror`. Gives the number of change rows that were read. Throws DuckDB's error for a file that cannot be read. */
export async function loadMirror(db: ScratchDatabase, source: MirrorSource): Promise<number> {
  await db.run(`CREATE OR REPLACE TABLE copied AS ${await scanSql(db, source, "copy", copyFields)}`);
  const changeCount = await (source.key.length > 0 ? loadKeyed(db, source) : loadCounted(db, source));
  for (const table of ["copied", "changes", "named", "replayed"]) await db.run(`DROP TABLE IF EXISTS ${table}`);
  return changeCount;
}

/** Rows with an identity: what changes name is replayed, the rest of the copy is taken as it is. */
async function loadKeyed(db: ScratchDatabase, source: MirrorSource): Promise<number> {
  await db.run(`CREATE OR REPLACE TABLE changes AS ${await scanSql(db, source, "stream", changeFields)}`);
  await db.run(`CREATE OR REPLACE TABLE named AS SELECT identity FROM changes
    UNION SELECT old_identity FROM changes WHERE old_identity IS NOT NULL`);
  const table: ReplayedTable = { rows: new Map(), emptied: false };
  for await (const batch of db.stream("SELECT identity, row FROM copied SEMI JOIN named USING (identity)")) {
    for (const [identity, row] of batch) table.rows.set(identity as string, row as string);
  }
  const changeCount = await replay(db, table);
  await db.run("CREATE OR REPLACE TABLE replayed (row VARCHAR)");
  await db.append("replayed", [[...table.rows.values()]]);
  await db.run(`CREATE OR REPLACE TABLE mirror AS SELECT row, 1 AS n FROM copied ANTI JOIN named USING (identity)
      WHERE ${!table.emptied}
    UNION ALL SELECT to_json(from_json(row, '["VARCHAR"]'))::VARCHAR, 1 FROM replayed`);
  return changeCount;
}

async function replay(db: ScratchDatabase, table: ReplayedTable): Promise<number> {
  let transaction: ReplayedChange[] = [];
  let count = 0;
  const ordered = "SELECT lsn, operation, identity, old_identity, row, unchanged FROM changes ORDER BY lsn, sequence";
  for await (const batch of db.stream(ordered)) {
    for (const [lsn, operation, identity, oldIdentity, row, unchanged] of batch) {
      if (transaction.length > 0 && transaction[0]!.lsn !== lsn) {
        replayTransaction(table, transaction);
        transaction = [];
      }
      transaction.push({
        lsn: lsn as bigint,
        operation: operation as string,
        identity: identity as string,
        oldIdentity: oldIdentity as string | null,
        row: row as string,
        unchanged: unchanged === null ? [] : (JSON.parse(unchanged as string) as number[]),
      });
      count++;
    }
  }
  replayTransaction(table, transaction);
  return count;
}

/** Rows without an identity are counted: what came after the last TRUNCATE puts them in and takes them out. */
async function loadCounted(db: ScratchDatabase, source: MirrorSource): Promise<number> {
  await db.run(`CREATE OR REPLACE TABLE changes AS ${await scanSql(db, source, "stream", countedFields)}`);
  await db.run(`CREATE OR REPLACE TABLE mirror AS
    WITH emptied AS (SELECT lsn, sequence FROM changes WHERE operation = 'TRUNCATE' ORDER BY ALL DESC LIMIT 1),
      counted AS (SELECT * FROM changes WHERE coalesce((lsn, sequence) > (SELECT (lsn, sequence) FROM emptied), true))
    SELECT row, 1 AS n FROM copied WHERE NOT EXISTS (FROM emptied)
    UNION ALL SELECT row, 1 FROM counted WHERE operation IN ('INSERT', 'UPDATE')
    UNION ALL SELECT old_row, -1 FROM counted WHERE operation IN ('UPDATE', 'DELETE')`);
  const [[count] = []] = await db.rows("SELECT count(*) FROM changes");
  return Number(count);
}

/** SQL of canonical texts, in the order of the newest columns, as the files of one version have them. */
interface FileTexts {
  readonly values: readonly string[];
  readonly old: readonly string[];
  readonly unchanged: readonly string[];
}

type Fields = (texts: FileTexts, source: MirrorSource) => Readonly<Record<string, string>>;

const copyFields: Fields = ({ values }, { key }) => ({ row: json(values), identity: identity(values, key) });

const changeFields: Fields = ({ values, old, unchanged }, { key }) => ({
  ...ordered,
  row: json(values),
  identity: identity(values, key),
  old_identity: `CASE WHEN ${key.map((at) => `${old[at]} IS NOT NULL`).join(" OR ")} THEN ${identity(old, key)} END`,
  unchanged: `CASE WHEN _pg_flo_unchanged IS NOT NULL THEN to_json(list_filter(
    [${unchanged.map((sql, at) => `CASE WHEN ${sql} THEN ${at} END`).join(", ")}], lambda place: place IS NOT NULL))::VARCHAR END`,
});

const countedFields: Fields = ({ values, old, unchanged }) => ({
  ...ordered,
  row: json(
    values.map(
      (value, at) => `CASE WHEN _pg_flo_unchanged IS NOT NULL AND ${unchanged[at]} THEN ${old[at]} ELSE ${value} END`,
    ),
  ),
  old_row: json(old),
});

const ordered = { lsn: "_pg_flo_lsn", sequence: "_pg_flo_sequence", operation: "_pg_flo_operation" };

function json(texts: readonly string[]): string {
  return `to_json([${texts.map((text) => `(${text})::VARCHAR`).join(", ")}])::VARCHAR`;
}

function identity(texts: readonly string[], key: readonly number[]): string {
  return key.length === 0 ? "NULL::VARCHAR" : json(key.map((at) => texts[at]!));
}

/** One branch for each schema version that has files of the kind; one without rows when there is none. */
async function scanSql(
  db: ScratchDatabase,
  source: MirrorSource,
  kind: "copy" | "stream",
  fields: Fields,
): Promise<string> {
  const { entry, storageRoot } = source;
  const files = entry.files.filter((file) => file.kind === kind);
  const branches: string[] = [];
  for (const version of new Set(files.map((file) => file.schemaVersion))) {
    const paths = files.filter((file) => file.schemaVersion === version).map((file) => `${storageRoot}/${file.path}`);
    // Taken literally: DuckDB would read patterns, and folders such as a=b as columns.
    const list = paths.map((path) => quoteText(path.replace(/[*?[]/g, "[$&]"))).join(", ");
    const scan = `read_parquet([${list}], union_by_name = true, hive_partitioning = false)`;
    const described = await db.rows(`SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM ${scan})`);
    const types = new Map(described.map(([name, type]) => [String(name), String(type)]));
    const columns = entry.versions.get(version) ?? [];
    branches.push(`SELECT ${selectList(fields(fileTexts(source, columns, types), source))} FROM ${scan}
      WHERE ${kind === "copy" ? "true" : counts(entry)}`);
  }
  if (branches.length > 0) return branches.join(" UNION ALL ");
  const names = Object.keys(fields({ values: ["NULL"], old: ["NULL"], unchanged: ["false"] }, { ...source, key: [] }));
  const types: Readonly<Record<string, string>> = { lsn: "BIGINT", sequence: "BIGINT" };
  return `SELECT ${names.map((name) => `NULL::${types[name] ?? "VARCHAR"} AS ${name}`).join(", ")} WHERE false`;
}

function selectList(fields: Readonly<Record<string, string>>): string {
  return Object.entries(fields)
    .map(([name, sql]) => `${sql} AS ${name}`)
    .join(", ");
}

/** From the table's cut to the position. */
function counts({ table, position }: ManifestTable): string {
  return [
    ...(table.cutLsn === null ? [] : [`_pg_flo_lsn >= ${table.cutLsn}`]),
    ...(position === null ? ["false"] : [`_pg_flo_lsn <= ${position}`]),
  ].join(" AND ");
}

/** Columns are found again by attnum; one that these files do not have has its default of when it was added, or NULL. */
function fileTexts(
  { columns }: MirrorSource,
  inVersion: readonly TableColumn[],
  types: ReadonlyMap<string, string>,
): FileTexts {
  const there = columns.map(({ column }) => inVersion.find(({ attnum }) => attnum === column.attnum));
  const text = (at: number, prefix: "" | "_old_"): string => {
    const found = there[at];
    const type = found && types.get(`${prefix}${found.fileName}`);
    const { missing, family } = columns[at]!;
    if (!found && missing !== null) return canonicalSql(quoteText(missing), family);
    if (!found || !type) return "NULL";
    const value = printedSql(quoteName(`${prefix}${found.fileName}`), type);
    const pointer = `/${`${prefix}${found.name}`.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    const exact = `json_extract_string(_pg_flo_exact, ${quoteText(pointer)})`;
    const shown = `CASE WHEN _pg_flo_exact IS NULL THEN ${value} ELSE coalesce(${exact}, ${value}) END`;
    return canonicalSql(`(${shown})`, columns[at]!.family);
  };
  return {
    values: columns.map((_, at) => text(at, "")),
    old: columns.map((_, at) => text(at, "_old_")),
    unchanged: there.map((found) =>
      found ? `coalesce(list_contains(_pg_flo_unchanged, ${quoteText(found.name)}), false)` : "false",
    ),
  };
}
