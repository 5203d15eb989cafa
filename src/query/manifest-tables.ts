// From the manifest to what the views are made of: paths that DuckDB can open, and the types that it finds in the files.
// Types of Postgres's own are known by their OID. What users define (domains, enums, arrays of them) is told by the
// files, or where there is no file yet by the source's catalog, if the caller has it.
import type { Manifest, ManifestTable } from "../metadata/status.ts";
import type { TableColumn } from "../metadata/tables.ts";
import type { ParquetColumn, ValueType } from "../parquet/schema.ts";
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import { planColumns } from "../types/registry.ts";
import { openDuckDB } from "./duckdb.ts";
import type { FileSource } from "./file-source.ts";
import { queryFailed } from "./mirror.ts";
import type { MirrorTable, MirrorVersion } from "./mirror-table.ts";
import { type MissingValue, missingValues } from "./missing-values.ts";
import { quoteName, readParquetSql } from "./scan-sql.ts";

export interface ManifestTablesOptions {
  readonly files: FileSource;
  /** The source's types, asked for only when no file tells what a user-defined type became. Null: not to be had. */
  readonly readTypes: () => Promise<ReadonlyMap<number, PgType> | null>;
  /** The source's types, where they are known anyway. */
  readonly types?: ReadonlyMap<number, PgType>;
}

/** Every table of the manifest, also removed and failed ones, with the files that they have. */
export async function manifestTables(manifest: Manifest, options: ManifestTablesOptions): Promise<MirrorTable[]> {
  const known = await knownTypes(manifest, options);
  return manifest.tables.map((entry) => ({
    schema: entry.table.schema,
    name: entry.table.name,
    identity: identityOf(entry),
    cutLsn: entry.table.cutLsn,
    baseLsn: entry.table.baseLsn,
    position: entry.position,
    versions: versionsOf(entry).map(([version, columns]) => mirrorVersion(entry, version, columns, known)),
    files: entry.files.map(({ kind, path, schemaVersion, lsnStart, lsnEnd }) => ({
      kind,
      path: options.files.pathOf(path),
      schemaVersion,
      lsnStart,
      lsnEnd,
    })),
  }));
}

/** The type that DuckDB reads from a column of our files. */
export function duckdbType(column: ParquetColumn): string {
  switch (column.kind) {
    case "value":
      return scalarType(column.type);
    case "list":
      return `${duckdbType(column.element)}[]`;
    case "map":
      return `MAP(${duckdbType(column.key)}, ${duckdbType(column.value)})`;
    case "struct":
      return `STRUCT(${column.fields.map((field) => `${quoteName(field.name)} ${duckdbType(field)}`).join(", ")})`;
  }
}

function scalarType({ physical, logical }: ValueType): string {
  if (logical.kind === "string") return "VARCHAR";
  if (logical.kind === "decimal") return `DECIMAL(${logical.precision},${logical.scale})`;
  if (logical.kind === "json") return "JSON";
  if (logical.kind === "uuid") return "UUID";
  if (logical.kind === "date") return "DATE";
  if (logical.kind === "time") return "TIME";
  if (logical.kind === "timestamp") return logical.utc ? "TIMESTAMP WITH TIME ZONE" : "TIMESTAMP";
  return plainTypes[physical];
}

const plainTypes: Readonly<Record<ValueType["physical"], string>> = {
  BOOLEAN: "BOOLEAN",
  INT32: "INTEGER",
  INT64: "BIGINT",
  FLOAT: "FLOAT",
  DOUBLE: "DOUBLE",
  BYTE_ARRAY: "BLOB",
  FIXED_LEN_BYTE_ARRAY: "BLOB",
};

/** OIDs from here on are given to what users define: https://www.postgresql.org/docs/current/system-catalog-initial-data.html */
const FIRST_USER_OID = 16_384;

/** The arrays of pg_type.dat whose elements have a decoder here: array OID and element OID. */
const builtinArrays: readonly (readonly [number, number])[] = [
  ...([
    [1000, 16],
    [1001, 17],
    [1003, 19],
    [1016, 20],
    [1005, 21],
    [1007, 23],
    [1009, 25],
    [1028, 26],
  ] as const),
  ...([
    [1011, 28],
    [1012, 29],
    [199, 114],
    [143, 142],
    [1021, 700],
    [1022, 701],
    [1014, 1042],
  ] as const),
  ...([
    [1015, 1043],
    [1182, 1082],
    [1183, 1083],
    [1115, 1114],
    [1185, 1184],
    [1231, 1700],
  ] as const),
  ...([
    [2951, 2950],
    [3807, 3802],
  ] as const),
];

const builtinTypes: ReadonlyMap<number, PgType> = new Map(
  builtinArrays.map(([oid, elementOid]) => [
    oid,
    {
      oid,
      name: "",
      schema: "pg_catalog",
      typname: "",
      kind: "b",
      elementOid,
      baseOid: 0,
      baseTypmod: -1,
      hasSend: true,
    },
  ]),
);

interface KnownTypes {
  /** Of a version's columns by their name in the file, in DuckDB's words. */
  readonly inFiles: ReadonlyMap<string, ReadonlyMap<string, string>>;
  readonly types: ReadonlyMap<number, PgType>;
  /** Of columns that files of older versions lack. */
  readonly missing: ReadonlyMap<SourceColumn, MissingValue>;
}

async function knownTypes(manifest: Manifest, options: ManifestTablesOptions): Promise<KnownTypes> {
  const known = await userTypes(manifest, options);
  const lacking = manifest.tables.flatMap((entry) => {
    const versions = versionsOf(entry).map(([, columns]) => columns);
    const lacked = ({ attnum }: TableColumn) => versions.some((columns) => !columns.some((c) => c.attnum === attnum));
    return (versions.at(-1) ?? []).filter((column) => column.missing !== undefined && lacked(column));
  });
  if (lacking.length === 0) return { ...known, missing: new Map() };
  const database = await openDuckDB({ threads: "1" });
  try {
    return { ...known, missing: await missingValues(database.connection, lacking, known.types) };
  } catch (cause) {
    throw queryFailed("read the defaults of columns that were added", cause);
  } finally {
    database.close();
  }
}

async function userTypes(manifest: Manifest, options: ManifestTablesOptions): Promise<Omit<KnownTypes, "missing">> {
  const unclear = manifest.tables.flatMap((entry) =>
    versionsOf(entry)
      .filter(([, columns]) => columns.some(isUserDefined))
      .map(([version]) => ({
        key: versionKey(entry, version),
        path: entry.files.find((file) => file.schemaVersion === version)?.path,
      })),
  );
  const inFiles = new Map<string, ReadonlyMap<string, string>>();
  const files = unclear.flatMap(({ key, path }) => (path === undefined ? [] : [{ key, path }]));
  if (files.length > 0) {
    const database = await openDuckDB({ threads: "1" });
    try {
      for (const { key, path } of files) {
        const opened = options.files.pathOf(path);
        const sql = `DESCRIBE SELECT * FROM ${readParquetSql([opened])}`;
        // A file that cannot be read is told when a query names its table.
        const reader = await options.files
          .fetch([opened])
          .then(() => database.connection.runAndReadAll(sql))
          .catch(() => null);
        if (reader) inFiles.set(key, new Map(reader.getRows().map(([name, type]) => [String(name), String(type)])));
      }
    } catch (cause) {
      throw queryFailed("read the types of the files", cause);
    } finally {
      database.close();
    }
  }
  const missing = unclear.some(({ key }) => !inFiles.has(key));
  const types = options.types ?? (missing ? await options.readTypes() : null);
  return { inFiles, types: types ?? builtinTypes };
}

function mirrorVersion(
  entry: ManifestTable,
  schemaVersion: number,
  columns: readonly TableColumn[],
  known: KnownTypes,
): MirrorVersion {
  const inFile = known.inFiles.get(versionKey(entry, schemaVersion));
  // One after the other: the file's names are stored, those that planning would give do not matter.
  const planned = columns.map((column) => planColumns([column], known.types)[0]!.parquet);
  return {
    schemaVersion,
    columns: columns.map((column, index) => ({
      name: column.name,
      fileName: column.fileName,
      typeName: column.typeName,
      attnum: column.attnum,
      ...(known.missing.has(column) && { missing: known.missing.get(column)! }),
      duckdbType: (isUserDefined(column) && inFile?.get(column.fileName)) || duckdbType(planned[index]!),
    })),
  };
}

/** Or an array of the server's own whose element is not in the list above. */
function isUserDefined({ typeOid, typeName }: TableColumn): boolean {
  return typeOid >= FIRST_USER_OID || (typeName.endsWith("[]") && !builtinTypes.has(typeOid));
}

function identityOf({ table }: ManifestTable): MirrorTable["identity"] {
  return { kind: table.identity.kind, columns: table.identity.kind === "none" ? [] : table.identity.columns };
}

function versionsOf({ versions }: ManifestTable): [number, readonly TableColumn[]][] {
  return [...versions].sort(([left], [right]) => left - right);
}

function versionKey({ table }: ManifestTable, version: number): string {
  return `${table.tableId}/${version}`;
}
