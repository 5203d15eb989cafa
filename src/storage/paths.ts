// Where a table's files are, below the storage's root. Pure: the same names give the same path on every platform.
// Different tables never share a folder, also where file systems ignore case (macOS) or limit names to 255 bytes.
import { createHash } from "node:crypto";

/** The longest folder name that is made: file systems allow 255 bytes, and some layers above them take a share. */
const FOLDER_LENGTH_MAX = 200;
const SHORTENED_NAME_LENGTH = 80;

/**
 * `<group>/<schema>.<table>/copy/<number>-<id>.parquet`. `id` makes the attempt unique: a range that is copied again
 * after a crash must not meet its orphan.
 */
export function copyFilePath(group: string, schema: string, table: string, rangeNumber: number, id: string): string {
  return `${group}/${tableFolder(schema, table)}/copy/${fileNumber(rangeNumber)}-${encodeName(id)}.parquet`;
}

/** `<group>/<schema>.<table>/stream/<yyyy>/<mm>/<dd>/<hh>/<batch>-<number>.parquet`, the hour in UTC. */
export function streamFilePath(
  group: string,
  schema: string,
  table: string,
  commitTime: Date,
  batch: string,
  number: number,
): string {
  const [, year, month, day, hour] = /^([+-]?\d+)-(\d\d)-(\d\d)T(\d\d)/.exec(commitTime.toISOString())!;
  const folder = `${group}/${tableFolder(schema, table)}/stream/${year}/${month}/${day}/${hour}`;
  return `${folder}/${encodeName(batch)}-${fileNumber(number)}.parquet`;
}

/** Of a file that holds the rows of others: in the folder of the first of them, `c<compaction>-<number>.parquet`. */
export function mergedFilePath(first: string, compaction: bigint, number: number): string {
  return `${first.slice(0, first.lastIndexOf("/"))}/${compactedName(compaction, number)}`;
}

/** Of a copy file that a table's state was folded into. */
export function baseFilePath(group: string, schema: string, table: string, compaction: bigint, number: number): string {
  return `${group}/${tableFolder(schema, table)}/copy/${compactedName(compaction, number)}`;
}

function compactedName(compaction: bigint, number: number): string {
  return `c${compaction}-${fileNumber(number)}.parquet`;
}

/** What a path says that was made here. */
export type FilePath =
  | { readonly kind: "copy"; readonly folder: string; readonly rangeNumber: number }
  | { readonly kind: "stream"; readonly folder: string; readonly stream: number; readonly epoch: bigint }
  | { readonly kind: "compacted"; readonly folder: string; readonly compaction: bigint };

/** Undefined for a path that was not made here: somebody else's file. `folder` is `tableFolder`'s. */
export function parseFilePath(path: string): FilePath | undefined {
  const [, folder = "", kind, ...rest] = path.split("/");
  const name = rest.at(-1) ?? "";
  if (!folder.includes(".")) return undefined;
  const compaction = /^c(\d+)-\d{6,}\.parquet$/.exec(name)?.[1];
  if (compaction !== undefined && rest.length === (kind === "copy" ? 1 : kind === "stream" ? 5 : 0)) {
    return { kind: "compacted", folder, compaction: BigInt(compaction) };
  }
  if (kind === "copy" && rest.length === 1) {
    const rangeNumber = /^(\d{6,})-[^/]+\.parquet$/.exec(name)?.[1];
    return rangeNumber === undefined ? undefined : { kind, folder, rangeNumber: Number(rangeNumber) };
  }
  if (kind === "stream" && rest.length === 5) {
    const [, stream, epoch] = /^(\d+)-(\d+)-\d+-\d{6,}\.parquet$/.exec(name) ?? [];
    if (stream !== undefined && epoch !== undefined) {
      return { kind, folder, stream: Number(stream), epoch: BigInt(epoch) };
    }
  }
  return undefined;
}

/** The folder of one table's files, below its group's. */
export function tableFolder(schema: string, table: string): string {
  const [encodedSchema, encodedTable] = [encodeName(schema), encodeName(table)];
  const folder = `${encodedSchema}.${encodedTable}`;
  if (folder.length <= FOLDER_LENGTH_MAX) return folder;
  // `~` is in no encoded name, so no short folder looks like this; a NUL is in no identifier of Postgres.
  const hash = createHash("sha256").update(`${schema}\0${table}`).digest("hex").slice(0, 32);
  return `${shorten(encodedSchema)}.${shorten(encodedTable)}~${hash}`;
}

/** An assertion: paths are made here or come from the manifest. Empty only where a prefix may be. */
export function refuseForeignPath(path: string): void {
  const parts = path.split("/");
  const leaves = parts.some((part) => part === "" || part === "." || part === "..");
  if (leaves || path.includes("\0") || path.includes("\\")) {
    throw new Error(`not a path below the storage's root: ${JSON.stringify(path)}`);
  }
}

/** Cut for the eye only, never inside a %XX: the hash is what tells it from others. */
function shorten(encoded: string): string {
  return encoded.slice(0, SHORTENED_NAME_LENGTH).replace(/%.?$/, "");
}

/**
 * Percent-encodes all but a-z, 0-9, _ and -. A dot is encoded because it stands between schema and table; upper case,
 * because `Orders` and `orders` would be one folder where case is ignored. decodeURIComponent gives the name back.
 */
function encodeName(name: string): string {
  return name.replace(/[^a-z0-9_-]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
  );
}

/** Padded, so that listings are in order. */
function fileNumber(number: number): string {
  return String(number).padStart(6, "0");
}
