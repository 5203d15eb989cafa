// The state of a table whose rows cannot be named, as SQL: a multiset. Under REPLICA IDENTITY FULL without a key a
// DELETE takes out one equal row and an UPDATE replaces one; without identity only INSERT and TRUNCATE are seen.
// `_pg_flo_sequence` orders a transaction's rows here, so a TRUNCATE divides its own transaction too.
import {
  exactTexts,
  putOperations,
  type ScanExtras,
  type ScannedColumn,
  type ShowColumn,
  type StateBody,
  type StateParts,
  scanSql,
} from "./scan-sql.ts";

export function multisetSql(parts: StateParts): StateBody {
  const { table, columns, at, unchanged, show, places } = parts;
  const full = table.identity.kind === "full";
  const extras = full ? comparedExtras(new Set(unchanged.map((column) => column.index)), show) : orderExtras;
  const copied = scanSql({ table, columns, kind: "copy", at, show, places, extras: full ? copyExtras : () => ({}) });
  const events = scanSql({ table, columns, kind: "stream", at, show, places, extras });
  const own = columns.map(({ index }) => {
    const filled = full && unchanged.some((column) => column.index === index);
    return filled ? `image_c${index} AS c${index}` : `c${index}`;
  });
  const compared = full ? ", row_value" : "";
  const ctes = [
    `copied AS NOT MATERIALIZED (${copied})`,
    `all_events AS NOT MATERIALIZED (${events})`,
    "emptied AS MATERIALIZED (SELECT lsn, sequence FROM all_events WHERE op = 'TRUNCATE' ORDER BY lsn DESC, sequence DESC LIMIT 1)",
    `events AS NOT MATERIALIZED (SELECT * FROM all_events WHERE coalesce(
  lsn > (SELECT lsn FROM emptied) OR (lsn = (SELECT lsn FROM emptied) AND sequence > (SELECT sequence FROM emptied)), true))`,
    `added AS NOT MATERIALIZED (SELECT ${columns.map((column) => `c${column.index}`).join(", ")}${compared} FROM copied WHERE (SELECT lsn FROM emptied) IS NULL
  UNION ALL SELECT ${own.join(", ")}${compared} FROM events WHERE op IN ${full ? putOperations : "('INSERT')"})`,
  ];
  const values = columns.map((column) => `c${column.index}`).join(", ");
  if (!full) return { ctes: `WITH ${ctes.join(",\n")}`, rows: `SELECT ${values} FROM added` };
  const removed = `removed AS MATERIALIZED (SELECT old_row_value AS row_value, count(*) AS times FROM events WHERE op IN ('UPDATE', 'DELETE') GROUP BY ALL)`;
  // Only rows that something took out have to be numbered.
  const rows = `SELECT ${values} FROM added ANTI JOIN removed ON added.row_value IS NOT DISTINCT FROM removed.row_value
UNION ALL
SELECT ${values} FROM (SELECT added.*, times, row_number() OVER (PARTITION BY added.row_value) AS nth
  FROM added JOIN removed ON added.row_value IS NOT DISTINCT FROM removed.row_value) WHERE nth > times`;
  return { ctes: `WITH ${[...ctes, removed].join(",\n")}`, rows };
}

const orderExtras: ScanExtras = () => ({
  op: "_pg_flo_operation",
  lsn: "_pg_flo_lsn",
  sequence: "_pg_flo_sequence",
});

const copyExtras: ScanExtras = (columns) => ({
  row_value: rowSql(
    columns.map((column) => column.value),
    columns.map((column) => column.exact),
    columns,
  ),
});

/** Under FULL the old row holds every value, also the unchanged ones that the new image lacks. */
function comparedExtras(unchanged: ReadonlySet<number>, show: ShowColumn | undefined): ScanExtras {
  return (columns) => {
    const completed = (column: ScannedColumn, own: string, old: string) =>
      unchanged.has(column.index)
        ? `CASE WHEN _pg_flo_unchanged IS NOT NULL AND ${column.unchanged} THEN ${old} ELSE ${own} END`
        : own;
    const images = columns.map((column) => completed(column, column.value, column.old));
    const shown = columns.map((column) => {
      const { value, old } = show?.(column) ?? column;
      return completed(column, value, old);
    });
    const exacts = columns.map((column) => completed(column, column.exact, column.oldExact));
    const filled = columns.flatMap((column, at) =>
      unchanged.has(column.index) ? [[`image_c${column.index}`, shown[at]!] as const] : [],
    );
    return {
      ...orderExtras(columns),
      ...Object.fromEntries(filled),
      row_value: rowSql(images, exacts, columns),
      old_row_value: rowSql(
        columns.map((column) => column.old),
        columns.map((column) => column.oldExact),
        columns,
      ),
    };
  };
}

/** One comparable value for a whole row. DuckDB finds -0 and 0 equal, but they are not the same row to give back. */
function rowSql(values: readonly string[], exacts: readonly string[], columns: readonly ScannedColumn[]): string {
  const fields = values.flatMap((value, at) => {
    const type = columns[at]!.type.toUpperCase();
    if (type === "FLOAT" || type === "DOUBLE") return [`v${at} := ${value}`, `s${at} := signbit(${value})`];
    if (type === "FLOAT[]" || type === "DOUBLE[]") return [`v${at} := (${value})::VARCHAR`];
    return [`v${at} := ${value}`];
  });
  return `struct_pack(${fields.join(", ")}, exact := ${exactTexts(exacts)})`;
}
