// The proof: every row and every column of a table at the source against its files, both ways. It reads the manifest's
// files by itself and shares no code with what wrote them or with `query`. It does not wait: the caller sees to it that
// nobody writes to the source and that the stream has come past its last commit.
import type { ClientBase } from "pg";
import type { Manifest, ManifestTable } from "../metadata/status.ts";
import { readTypes, type SourceColumn } from "../postgres/catalog.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { type ComparedColumn, loadMirror } from "./mirror-rows.ts";
import { ScratchDatabase } from "./scratch-database.ts";
import { loadSource } from "./source-rows.ts";
import { isNested, sourceText } from "./source-text.ts";

/** Differing rows whose keys are told, for each kind of difference. */
const SAMPLES = 3;

export interface RowSample {
  readonly kind: "missing" | "extra" | "different";
  /** Column names and texts of the key. Values of rows: for the one who asked for the comparison, never for a log. */
  readonly key: Readonly<Record<string, string | null>>;
  /** Of a `different` row: the columns that differ. */
  readonly columns: readonly string[];
}

export interface TableComparison {
  readonly schema: string;
  readonly name: string;
  readonly equal: boolean;
  readonly sourceRows: number;
  readonly mirrorRows: number;
  /** Rows of stream files that made the mirror's state. */
  readonly changeRows: number;
  /** Rows of the source that the mirror lacks. */
  readonly missing: number;
  /** Rows of the mirror that the source lacks. */
  readonly extra: number;
  /** Rows that both have under one key, with other values. 0 without a key: then they are missing and extra. */
  readonly different: number;
  /** The first few, for tables with a key. */
  readonly samples: readonly RowSample[];
  /** Why there was no comparison: its files cannot be read, or have what nothing compares. Null when there was one. */
  readonly problem: string | null;
}

export interface CompareOptions {
  /** A client of `connect`, not in a transaction: it gets one of its own that sees one moment. */
  readonly source: ClientBase;
  readonly manifest: Manifest;
  /** Stands before the manifest's paths: an absolute folder. */
  readonly storageRoot: string;
  /** Called when a table begins. */
  readonly onTable?: (table: { readonly schema: string; readonly name: string }) => void;
}

/** Compares every table of the manifest that was not removed, one after the other. Memory: one table's rows at most. */
export async function compareTables(options: CompareOptions): Promise<TableComparison[]> {
  const { source, manifest } = options;
  await using db = await ScratchDatabase.open();
  await source.query("begin transaction isolation level repeatable read read only");
  try {
    await source.query("set local statement_timeout = 0");
    const types = await readTypes(source);
    const comparisons: TableComparison[] = [];
    for (const entry of manifest.tables.filter(({ table }) => table.state !== "removed")) {
      options.onTable?.(entry.table);
      const columns: ComparedColumn[] = [];
      for (const column of entry.table.columns) {
        const { sql, family } = sourceText(column, types);
        columns.push({ column, sql, family, missing: await printedMissing(source, column, sql) });
      }
      const nested = entry.table.columns.filter((column) => isNested(column, types)).map(({ name }) => name);
      comparisons.push(
        nested.length > 0 ? notCompared(entry, nested) : await compareTable(db, options, entry, columns),
      );
    }
    return comparisons;
  } finally {
    await source.query("rollback");
  }
}

/** The default of when a column was added, as the source prints a value of it. */
async function printedMissing(source: ClientBase, { name, typeName, missing }: SourceColumn, sql: string) {
  if (missing === undefined) return null;
  const { rows } = await source.query<(string | null)[]>({
    text: `select ${sql} from (select $1::${typeName} as ${quoteIdentifier(name)}) older`,
    values: [missing],
    rowMode: "array",
    types: { getTypeParser: () => (text: unknown) => text }, // as printed
  });
  return rows[0]![0]!;
}

function notCompared({ table: { schema, name } }: ManifestTable, nested: readonly string[]): TableComparison {
  const counts = { sourceRows: 0, mirrorRows: 0, changeRows: 0, missing: 0, extra: 0, different: 0, samples: [] };
  const problem = `nothing compares structs and maps of the native profile yet: ${nested.join(", ")}`;
  return { schema, name, ...counts, equal: false, problem };
}

async function compareTable(
  db: ScratchDatabase,
  { source, storageRoot }: CompareOptions,
  entry: ManifestTable,
  columns: readonly ComparedColumn[],
): Promise<TableComparison> {
  const { schema, name, identity } = entry.table;
  const named = identity.kind === "none" ? [] : identity.columns;
  const key = named.map((each) => columns.findIndex(({ column }) => column.name === each));
  await loadSource(db, source, entry.table, columns);
  const [[sourceRows] = []] = await db.rows("SELECT count(*) FROM source");
  const counts = { schema, name, sourceRows: Number(sourceRows) };
  let changeRows: number;
  try {
    changeRows = await loadMirror(db, { entry, columns, key, storageRoot });
  } catch (error) {
    if (firstLine(error).startsWith("Parser Error")) throw error; // our own SQL is wrong, not the files
    const problem = `its files cannot be read: ${firstLine(error)}`;
    const unread = { mirrorRows: 0, changeRows: 0, missing: counts.sourceRows, extra: 0, different: 0, samples: [] };
    return { ...counts, ...unread, equal: false, problem };
  }
  const [[mirrorRows] = []] = await db.rows("SELECT coalesce(sum(n), 0)::BIGINT FROM mirror");
  const differences = await findDifferences(db, columns, key);
  const { missing, extra, different } = differences;
  const equal = missing + extra + different === 0;
  return { ...counts, mirrorRows: Number(mirrorRows), changeRows, ...differences, equal, problem: null };
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}

type Differences = Pick<TableComparison, "missing" | "extra" | "different" | "samples">;

/** Counts every row on both sides: what does not come out at zero differs. */
async function findDifferences(
  db: ScratchDatabase,
  columns: readonly ComparedColumn[],
  key: readonly number[],
): Promise<Differences> {
  const texts = "from_json(row, '[\"VARCHAR\"]')";
  const keySql = key.length === 0 ? "NULL" : `to_json([${key.map((at) => `${texts}[${at + 1}]`).join(", ")}])::VARCHAR`;
  await db.run(`CREATE OR REPLACE TABLE differences AS SELECT *, ${keySql} AS key FROM (
    SELECT row, sum(n)::BIGINT AS n FROM (SELECT row, 1 AS n FROM source UNION ALL SELECT row, -n FROM mirror)
    GROUP BY row HAVING sum(n) <> 0)`);
  await db.run(`CREATE OR REPLACE TABLE differing AS SELECT key, missing, extra,
      CASE WHEN key IS NULL THEN 0 ELSE least(missing, extra) END AS different
    FROM (SELECT key, coalesce(sum(n) FILTER (n > 0), 0) AS missing, -coalesce(sum(n) FILTER (n < 0), 0) AS extra
      FROM differences GROUP BY key)`);
  const [[missing, extra, different] = []] = await db.rows(`SELECT sum(missing - different)::BIGINT,
    sum(extra - different)::BIGINT, sum(different)::BIGINT FROM differing`);
  const samples = key.length === 0 ? [] : await findSamples(db, columns, key);
  return { missing: Number(missing ?? 0), extra: Number(extra ?? 0), different: Number(different ?? 0), samples };
}

async function findSamples(
  db: ScratchDatabase,
  columns: readonly ComparedColumn[],
  key: readonly number[],
): Promise<RowSample[]> {
  const found = await db.rows(`SELECT kind, key, (SELECT min(row) FROM differences d WHERE d.key = s.key AND n > 0),
      (SELECT min(row) FROM differences d WHERE d.key = s.key AND n < 0)
    FROM (SELECT key, CASE WHEN different > 0 THEN 'different' WHEN missing > 0 THEN 'missing' ELSE 'extra' END AS kind
      FROM differing QUALIFY row_number() OVER (PARTITION BY kind ORDER BY key) <= ${SAMPLES}) s
    ORDER BY kind, key`);
  const texts = (json: unknown) => (json === null ? null : (JSON.parse(String(json)) as (string | null)[]));
  return found.map(([kind, keyTexts, sourceRow, mirrorRow]) => {
    const [left, right] = [texts(sourceRow), texts(mirrorRow)];
    const values = texts(keyTexts) ?? [];
    return {
      kind: kind as RowSample["kind"],
      key: Object.fromEntries(key.map((at, index) => [columns[at]!.column.name, values[index] ?? null])),
      columns: left && right ? columns.flatMap(({ column }, at) => (left[at] === right[at] ? [] : [column.name])) : [],
    };
  });
}
