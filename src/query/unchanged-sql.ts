// Completes the images whose TOASTed values the log did not carry: each is the value of the row that stood under the
// image's former identity before its transaction, and that row's own value may be unchanged too.
//
// A row that is updated often under one identity makes a long chain, so chains are not walked step by step. The
// touches of one identity are cut into runs: a run starts where a row appears (INSERT, a key change into it) or goes.
// Inside a run a window finds the last image that has the value. Only from a run's start the search jumps: to the row
// that the key change came from, or to the copy. The recursion is as deep as a row changed its key.

import type { ShownColumn } from "./mirror-table.ts";
import { putOperations } from "./scan-sql.ts";

// Written out, not named by a WINDOW clause: DuckDB takes a name for defined twice when one text has several views.
const ofIdentity = "(PARTITION BY id ORDER BY lsn)";
const runSoFar = "(PARTITION BY id, run ORDER BY lsn ROWS UNBOUNDED PRECEDING)";

/** CTEs after those of `keyedSql`; the last is `filled`: start_id (identity of a live image) and the columns' values. */
export function unchangedCtes(unchanged: readonly ShownColumn[]): readonly string[] {
  const carried = unchanged.map(
    (_, at) =>
      `max(CASE WHEN put AND NOT coalesce(list_contains(unchanged, ${at + 1}), false) THEN lsn END) OVER ${runSoFar}`,
  );
  const images = unchanged.map((column) => `image.c${column.index}`).join(", ");
  const values = unchanged.map(
    (column, at) => `any_value(c${column.index}) FILTER (position = ${at + 1}) AS c${column.index}`,
  );
  return [
    "partial AS MATERIALIZED (SELECT id, lsn, unchanged FROM live WHERE unchanged IS NOT NULL)",
    `affected AS MATERIALIZED (SELECT id FROM touches WHERE unchanged IS NOT NULL
  UNION SELECT from_id FROM touches WHERE unchanged IS NOT NULL AND from_id IS NOT NULL)`,
    // One step for an identity and a transaction: an image put there wins over what was taken out there.
    `steps AS MATERIALIZED (SELECT t.id, t.lsn, bool_or(t.put) AS put, any_value(t.from_id) AS from_id,
  any_value(t.unchanged) AS unchanged, coalesce(bool_or(t.starts) FILTER (t.put), true) AS starts
  FROM touches t SEMI JOIN affected ON t.id IS NOT DISTINCT FROM affected.id GROUP BY t.id, t.lsn)`,
    // former_lsn: the image that stood here before; NULL: the copy's row, -1: none. run 0 began in the copy.
    `runs AS MATERIALIZED (SELECT *, sum(starts::INTEGER) OVER ${ofIdentity} AS run, lag(CASE WHEN put THEN lsn ELSE -1 END) OVER ${ofIdentity} AS former_lsn FROM steps)`,
    // carried[n]: the last transaction of the run so far whose image has the n-th column.
    `known AS MATERIALIZED (SELECT id, lsn, run, former_lsn, first_value(from_id) OVER ${runSoFar} AS from_id,
  first_value(lsn) OVER ${runSoFar} AS start_lsn, [${carried.join(", ")}] AS carried FROM runs)`,
    // Where to look for what a run does not have: an image at (next_id, next_lsn), the copy (NULL) or nowhere (-1).
    `linked AS MATERIALIZED (SELECT k.id, k.lsn, k.carried, CASE WHEN k.run = 0 THEN k.id ELSE k.from_id END AS next_id,
  CASE WHEN k.run = 0 THEN NULL WHEN k.from_id IS NULL THEN -1 ELSE left_at.former_lsn END AS next_lsn
  FROM known k LEFT JOIN known left_at ON left_at.id IS NOT DISTINCT FROM k.from_id AND left_at.lsn = k.start_lsn)`,
    `walk AS (SELECT p.id AS start_id, k.id, k.carried, k.next_id, k.next_lsn,
  list_filter(p.unchanged, lambda position: k.carried[position] IS NOT NULL) AS found,
  list_filter(p.unchanged, lambda position: k.carried[position] IS NULL) AS missing
  FROM partial p JOIN linked k ON k.id IS NOT DISTINCT FROM p.id AND k.lsn = p.lsn
  UNION ALL
  SELECT w.start_id, w.next_id, k.carried, k.next_id, k.next_lsn,
  CASE WHEN w.next_lsn IS NULL THEN w.missing ELSE list_filter(w.missing, lambda position: k.carried[position] IS NOT NULL) END,
  CASE WHEN w.next_lsn IS NULL THEN [] ELSE list_filter(w.missing, lambda position: k.carried[position] IS NULL) END
  FROM walk w LEFT JOIN linked k ON k.id IS NOT DISTINCT FROM w.next_id AND k.lsn = w.next_lsn
  WHERE len(w.missing) > 0 AND coalesce(w.next_lsn, 0) >= 0)`,
    // lsn NULL: the copy's row.
    `picks AS MATERIALIZED (SELECT start_id, id, position, carried[position] AS lsn
  FROM (SELECT start_id, id, carried, unnest(found) AS position FROM walk))`,
    `filled AS MATERIALIZED (SELECT start_id, ${values.join(", ")} FROM (
  SELECT p.start_id, p.position, ${images} FROM picks p JOIN events image ON image.id IS NOT DISTINCT FROM p.id AND image.lsn = p.lsn WHERE image.op IN ${putOperations}
  UNION ALL
  SELECT p.start_id, p.position, ${images} FROM picks p JOIN copied image ON image.id IS NOT DISTINCT FROM p.id WHERE p.lsn IS NULL
  ) GROUP BY start_id)`,
  ];
}
