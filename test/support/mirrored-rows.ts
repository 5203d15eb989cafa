// The rows of a pipeline's files, as DuckDB reads them: for tests of what lies in the files, not of the state they tell.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { queryDuckdb, type Value } from "./parquet-readers.ts";

/** One object per row of all files of a table and kind, by column name. `order` is SQL. */
export async function fileRows(
  dataFolder: string,
  group: string,
  table: string,
  kind: "copy" | "stream",
  order: string,
): Promise<Record<string, Value>[]> {
  const folder = join(dataFolder, group, table, kind);
  const files = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".parquet"));
  const paths = files.map((name) => `'${join(folder, name).replaceAll("'", "''")}'`).join(", ");
  const columns = await queryDuckdb(
    `select * from read_parquet([${paths}], hive_partitioning = false) order by ${order}`,
  );
  return Array.from({ length: columns[0]!.values.length }, (_, row) =>
    Object.fromEntries(columns.map(({ name, values }) => [name, values[row]!])),
  );
}
