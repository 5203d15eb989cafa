// The state of a table with an identity, as SQL. A transaction's rows are one net-effect set, so no order inside it
// matters: of every identity only the last transaction that named it counts, and in that one an image put under the
// identity wins over its removal. The copy fills in the identities that no transaction named.
import type { ShownColumn } from "./mirror-table.ts";
import {
  exactTexts,
  putOperations,
  type ScanExtras,
  type ScannedColumn,
  type StateBody,
  type StateParts,
  scanSql,
} from "./scan-sql.ts";
import { unchangedCtes } from "./unchanged-sql.ts";

/**
 * Names of the CTEs, that unchanged-sql.ts builds on too: `copied` (c…, id), `events` (c…, id, old_id, has_old, lsn, op,
 * unchanged: positions in `parts.unchanged` from 1, or NULL), `touches` (id, lsn, put, from_id, starts, unchanged),
 * `live` (the images that stand at the end, not completed yet).
 */
export function keyedSql(parts: StateParts, identity: readonly ShownColumn[]): StateBody {
  const { table, columns, at, unchanged, show, places } = parts;
  const copied = scanSql({ table, columns, kind: "copy", at, show, places, extras: copyExtras(identity) });
  const events = scanSql({
    table,
    columns,
    kind: "stream",
    at,
    show,
    places,
    extras: eventExtras(identity, unchanged),
  });
  const completed = unchanged.length > 0;
  const ctes = [
    `copied AS NOT MATERIALIZED (${copied})`,
    `events AS NOT MATERIALIZED (${events})`,
    `emptied AS MATERIALIZED (SELECT max(lsn) AS lsn FROM events WHERE op = 'TRUNCATE')`,
    `touches AS NOT MATERIALIZED (${touchesSql})`,
    // put_lsn >= gone_lsn: the identity's last transaction put an image.
    `touched AS MATERIALIZED (SELECT id, max(lsn) FILTER (put) AS put_lsn, max(lsn) FILTER (NOT put) AS gone_lsn FROM touches GROUP BY id)`,
    `live AS NOT MATERIALIZED (SELECT e.* FROM events e JOIN touched t ON e.id IS NOT DISTINCT FROM t.id AND e.lsn = t.put_lsn
  WHERE e.op IN ${putOperations} AND e.lsn >= coalesce(t.gone_lsn, 0) AND e.lsn >= coalesce((SELECT lsn FROM emptied), 0))`,
    ...(completed ? unchangedCtes(unchanged) : []),
  ];
  const liveColumns = columns.map(({ index }) => {
    const position = unchanged.findIndex((column) => column.index === index) + 1;
    if (position === 0) return `live.c${index}`;
    return `CASE WHEN list_contains(live.unchanged, ${position}) THEN filled.c${index} ELSE live.c${index} END AS c${index}`;
  });
  const filled = completed ? " LEFT JOIN filled ON filled.start_id IS NOT DISTINCT FROM live.id" : "";
  const rows = `SELECT ${liveColumns.join(", ")} FROM live${filled}
UNION ALL
SELECT ${columns.map((column) => `copied.c${column.index}`).join(", ")}
FROM copied ANTI JOIN touched ON copied.id IS NOT DISTINCT FROM touched.id WHERE (SELECT lsn FROM emptied) IS NULL`;
  return { ctes: `WITH RECURSIVE ${ctes.join(",\n")}`, rows };
}

// Under REPLICA IDENTITY FULL `_old_` is there for every UPDATE: a row has moved only where the two identities differ.
const touchesSql = `SELECT id, lsn, true AS put, from_id, op = 'INSERT' OR from_id IS NOT NULL AS starts, unchanged
  FROM (SELECT *, CASE WHEN has_old AND old_id IS DISTINCT FROM id THEN old_id END AS from_id FROM events WHERE op IN ${putOperations})
  UNION ALL
  SELECT CASE WHEN has_old THEN old_id ELSE id END, lsn, false, NULL, true, NULL
  FROM events WHERE op = 'DELETE' OR (op = 'UPDATE' AND has_old)`;

function copyExtras(identity: readonly ShownColumn[]): ScanExtras {
  return (columns) => ({ id: identitySql(partsOf(columns, identity), "value", "exact") });
}

function eventExtras(identity: readonly ShownColumn[], unchanged: readonly ShownColumn[]): ScanExtras {
  return (columns) => {
    const key = partsOf(columns, identity);
    const anyOld = key.map((column) => `${column.old} IS NOT NULL`).join(" OR ");
    const anyOldExact = `coalesce(${[...key.map((column) => column.oldExact), "NULL"].join(", ")}) IS NOT NULL`;
    const positions = partsOf(columns, unchanged).map((c, at) => `CASE WHEN ${c.unchanged} THEN ${at + 1} END`);
    const listed = `list_filter([${positions.join(", ")}], lambda position: position IS NOT NULL)`;
    return {
      id: identitySql(key, "value", "exact"),
      old_id: identitySql(key, "old", "oldExact"),
      // An identity column is not NULL at the source, but its value may be one that only `_pg_flo_exact` can tell.
      has_old: `(${anyOld} OR CASE WHEN _pg_flo_exact IS NULL THEN false ELSE ${anyOldExact} END)`,
      lsn: "_pg_flo_lsn",
      op: "_pg_flo_operation",
      ...(positions.length === 0
        ? { unchanged: "NULL::INTEGER[]" }
        : { unchanged: `CASE WHEN _pg_flo_unchanged IS NULL THEN NULL ELSE nullif(${listed}, []) END` }),
    };
  };
}

/** One comparable value: the columns, and the exact texts of those that the file cannot hold. */
function identitySql(key: readonly ScannedColumn[], value: "value" | "old", exact: "exact" | "oldExact"): string {
  const fields = key.map((column, at) => `k${at} := ${column[value]}`);
  return `struct_pack(${fields.join(", ")}, exact := ${exactTexts(key.map((column) => column[exact]))})`;
}

function partsOf(columns: readonly ScannedColumn[], wanted: readonly ShownColumn[]): readonly ScannedColumn[] {
  return wanted.map((column) => columns[column.index]!);
}
