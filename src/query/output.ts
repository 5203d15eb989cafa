// Results for people and programs. Values are printed by DuckDB itself (as text or JSON), so that nothing is rounded
// on the way; results are written as they are read.
import { createReadStream, createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { rowBatches } from "./duckdb.ts";
import { type Mirror, queryFailed } from "./mirror.ts";

export const queryFormats = ["table", "json", "csv", "parquet"] as const;
export type QueryFormat = (typeof queryFormats)[number];

/** Rows that are looked at for the widths of a table's columns; later rows that are wider stick out. */
const WIDTH_SAMPLE_ROWS = 1000;

/** A file, or a stream that is written to and not ended. */
export type QueryOutput = { readonly file: string } | { readonly stream: Writable };

/**
 * Runs one SELECT and writes its result. json: one object a line (numbers have all their digits; NaN and the
 * infinities, which JSON lacks, are strings). csv and parquet: DuckDB's COPY. table: for reading on a terminal.
 * Throws QUERY_FAILED.
 */
export async function writeResult(
  mirror: Mirror,
  sql: string,
  format: QueryFormat,
  output: QueryOutput,
): Promise<void> {
  if (format === "csv" || format === "parquet") return writeCopy(mirror, sql, format, output);
  const lines = format === "json" ? jsonLines(mirror, sql) : tableLines(mirror, sql);
  if ("stream" in output) return pipeline(lines, output.stream, { end: false });
  await mirror.refuseOwnFile(output.file);
  await pipeline(lines, createWriteStream(output.file));
}

async function writeCopy(mirror: Mirror, sql: string, format: "csv" | "parquet", output: QueryOutput): Promise<void> {
  if ("file" in output) return mirror.copyTo(sql, output.file, format);
  // A pipe can be a socket, which DuckDB cannot open by name: the result takes the way over a file.
  const path = join(mirror.folder, `result.${format}`);
  try {
    await mirror.copyTo(sql, path, format);
    await pipeline(createReadStream(path), output.stream, { end: false });
  } finally {
    await rm(path, { force: true });
  }
}

async function* jsonLines(mirror: Mirror, sql: string): AsyncGenerator<string> {
  const alias = "_pg_flo_row";
  const batches = texts(mirror, sql, (source) => `SELECT to_json(${alias})::VARCHAR FROM ${source} AS ${alias}`);
  for await (const { rows } of batches) yield rows.map(([line]) => `${strictJson(line!)}\n`).join("");
}

/** DuckDB writes NaN and Infinity bare, which is no JSON. Strings are matched first and left as they are. */
function strictJson(line: string): string {
  if (!/NaN|Infinity/.test(line)) return line;
  return line.replace(/"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)/g, (part) => (part.startsWith('"') ? part : `"${part}"`));
}

async function* tableLines(mirror: Mirror, sql: string): AsyncGenerator<string> {
  let head: string[] = [];
  const sample: string[][] = [];
  let widths: number[] | undefined;
  let count = 0;
  const layOut = () => {
    widths = head.map((name, at) => Math.max(width(name), ...sample.map((row) => width(row[at]!))));
    const rule = widths.map((size) => "-".repeat(size)).join("-+-");
    return `${line(head, widths)}${rule}\n${sample.map((row) => line(row, widths!)).join("")}`;
  };
  for await (const { names, rows } of texts(mirror, sql, (source) => `SELECT COLUMNS(*)::VARCHAR FROM ${source}`)) {
    head = names.map(printable);
    count += rows.length;
    const cells = rows.map((row) => row.map((value) => (value === null ? "NULL" : printable(value))));
    if (widths) yield cells.map((row) => line(row, widths!)).join("");
    else {
      sample.push(...cells);
      if (sample.length >= WIDTH_SAMPLE_ROWS) yield layOut();
    }
  }
  if (!widths) yield layOut();
  yield `(${count} ${count === 1 ? "row" : "rows"})\n`;
}

function line(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((cell, at) => cell + " ".repeat(Math.max(0, widths[at]! - width(cell))));
  return `${padded.join(" | ").trimEnd()}\n`;
}

function width(text: string): number {
  return [...text].length;
}

/** Values come from someone's rows: control characters must not reach the terminal, and a cell is one line. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    return `\\x${character.codePointAt(0)!.toString(16).padStart(2, "0")}`;
  });
}

interface TextBatch {
  readonly names: readonly string[];
  readonly rows: readonly (readonly (string | null)[])[];
}

/** Batches of a result whose columns are all VARCHAR; the first has no rows, so that names come without any. */
async function* texts(mirror: Mirror, sql: string, wrap: (source: string) => string): AsyncGenerator<TextBatch> {
  const result = await mirror.query(sql, wrap);
  const names = result.columnNames();
  yield { names, rows: [] };
  try {
    for await (const rows of rowBatches(result)) yield { names, rows: rows as (string | null)[][] };
  } catch (cause) {
    throw queryFailed("run the query", cause);
  }
}
