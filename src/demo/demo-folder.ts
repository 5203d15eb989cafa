// The folder that a demo leaves behind: Parquet files, its config, and the mirror's tables as views for DuckDB.
// Takes away what an earlier demo made there, and refuses a folder with anything that no demo made.
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { changesSql } from "../query/changes-sql.ts";
import type { MirrorTable } from "../query/mirror-table.ts";
import { quoteName } from "../query/scan-sql.ts";
import { stateSql } from "../query/state-sql.ts";
import { nameViews } from "../query/view-names.ts";

export const DEMO_GROUP = "demo";

const marker = ".pg-flo-demo";
const configFile = "pg-flo.yaml";
const viewsFile = "views.sql";
/** Everything that a demo makes in its folder. */
const own = [marker, configFile, viewsFile, DEMO_GROUP];

export interface DemoFolder {
  /** Absolute. */
  readonly path: string;
  readonly config: string;
  readonly views: string;
}

/** Makes the folder, or empties an earlier demo's. Throws STORAGE_DENIED for any other that is not empty. */
export async function prepareFolder(folder: string): Promise<DemoFolder> {
  const path = resolve(folder);
  const fix = "name another folder with --folder DIR";
  try {
    await mkdir(path, { recursive: true });
    const entries = await readdir(path);
    const others = entries.filter((entry) => !own.includes(entry));
    if (others.length > 0 || (entries.length > 0 && !entries.includes(marker))) {
      throw new PgFloError("STORAGE_DENIED", `demo folder ${path}, is not empty, and not an earlier demo's alone`, {
        fix: `${fix}, or empty this one`,
      });
    }
    // The marker goes last and comes first: at any moment the folder is known for a demo's.
    for (const name of own.filter((each) => each !== marker))
      await rm(join(path, name), { recursive: true, force: true });
    await writeFile(join(path, marker), "This folder was made by pg-flo demo, and the next demo replaces it.\n");
  } catch (cause) {
    if (cause instanceof PgFloError) throw cause;
    const reason = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new PgFloError("STORAGE_DENIED", `demo folder ${path}, cannot be written (${reason})`, { fix, cause });
  }
  return { path, config: join(path, configFile), views: join(path, viewsFile) };
}

/** The config of the demo's group, as `--config` takes it. It holds the server's password: for the owner's eyes. */
export async function writeDemoConfig(folder: DemoFolder, source: ConnectionConfig): Promise<void> {
  const { user, password = "", host, port, database } = source;
  const text = `# Made by pg-flo demo. Its PostgreSQL server lives only as long as the demo runs.
group: ${DEMO_GROUP}
source: { url: "postgres://${user}:${password}@${host}:${port}/${database}?sslmode=disable" }
storage: .
schemas:
  shop: "*"
stream: { flush_interval: 1s }
`;
  await writeFile(folder.config, text, { mode: 0o600 });
}

/** Every table's state and history as views over its files: \`duckdb -init views.sql\` needs no server and no pg-flo. */
export async function writeViews(folder: DemoFolder, tables: readonly MirrorTable[]): Promise<void> {
  const { views } = nameViews(tables);
  const schemas = [...new Set(views.map(({ schema }) => schema))];
  const statements = [
    "SET TimeZone = 'UTC'",
    ...schemas.map((schema) => `CREATE SCHEMA IF NOT EXISTS ${quoteName(schema)}`),
    ...views.flatMap(({ table, schema, state, changes }) => [
      `CREATE VIEW ${quoteName(schema)}.${quoteName(state)} AS\n${stateSql(table)}`,
      `CREATE VIEW ${quoteName(schema)}.${quoteName(changes)} AS\n${changesSql(table)}`,
    ]),
  ];
  const head = "-- The mirror's tables and their histories (<table>__changes) as views over the Parquet files.\n";
  await writeFile(folder.views, `${head}${statements.map((sql) => `${sql};\n`).join("\n")}`);
}
