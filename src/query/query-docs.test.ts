// The SQL of docs/query.md is run: it must give the state that the views give.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { type Change, MirrorFiles } from "../../test/support/mirror-files.ts";
import { openDuckDB } from "./duckdb.ts";
import { quoteText } from "./scan-sql.ts";
import { stateSql } from "./state-sql.ts";

test("the documentation's way by hand gives the state that the view shows", async () => {
  const page = await readFile(new URL("../../docs/query.md", import.meta.url), "utf8");
  const byHand = /```sql\n(.*?)```/s.exec(page)![1]!;
  const image = (id: number, note: string, doc?: string) => ({
    row: { id: String(id), note: `'${note}'`, ...(doc ? { doc: `'${doc}'` } : {}) },
  });
  const unchanged = ["doc"];
  const changes: Change[] = [
    { lsn: 90, op: "DELETE", row: { id: "1" }, old: { id: "1" } },
    { lsn: 100, op: "UPDATE", ...image(2, "swapped"), old: { id: "1" }, unchanged },
    { lsn: 100, op: "UPDATE", ...image(1, "swapped"), old: { id: "2" }, unchanged },
    { lsn: 110, op: "DELETE", row: { id: "3" }, old: { id: "3" } },
    { lsn: 120, op: "INSERT", ...image(3, "again", "again") },
    { lsn: 130, op: "UPDATE", ...image(3, "changed"), unchanged },
    { lsn: 130, op: "UPDATE", ...image(6, "moved"), old: { id: "4" }, unchanged },
    { lsn: 140, op: "UPDATE", ...image(7, "moved on"), old: { id: "6" }, unchanged },
    { lsn: 150, op: "TRUNCATE" },
    { lsn: 150, op: "INSERT", ...image(9, "after", "after") },
  ];
  await using files = await MirrorFiles.create();
  files.version([
    ["id", "BIGINT"],
    ["note", "VARCHAR"],
    ["doc", "VARCHAR"],
  ]);
  await files.copy([1, 2, 3, 4, 5].map((id) => image(id, "copied", `doc ${id}`)));
  await files.stream(changes);
  const table = files.table({ kind: "key", columns: ["id"] }, { cutLsn: 100n });
  for (const position of [100, 110, 120, 130, 140, 150]) {
    const list = (kind: string) =>
      `[${table.files
        .filter((file) => file.kind === kind)
        .map((file) => quoteText(file.path))
        .join(", ")}]`;
    const sql = byHand
      .replaceAll("$STREAM_FILES", list("stream"))
      .replaceAll("$COPY_FILES", list("copy"))
      .replaceAll("$CUT", "100")
      .replaceAll("$POSITION", String(position));
    const { connection, close } = await openDuckDB({ threads: "1" });
    const reader = await connection.runAndReadAll(sql).finally(close);
    const rows = reader.getRows().map((row) => row.join("|"));
    const expected = (await files.rows(stateSql(table, { at: BigInt(position) }))).map((row) => row.join("|"));
    assert.deepEqual(rows.sort(), [...expected].sort(), `at ${position}`);
  }
});
