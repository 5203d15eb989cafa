// What commands write for people and machines: text, tables and JSON, with back-pressure.
// A reader that goes away (`| head`) is no error: what follows is dropped, and `closed` tells who wants to stop early.
import { PgFloError } from "../base/errors.ts";
import { escapeControls, jsonInteger } from "../base/log.ts";

export interface Output {
  /** Resolves when the text is handed over. Throws STORAGE_FAILED when it cannot be, say because a disk is full. */
  write(text: string): Promise<void>;
  /** Hands text over without waiting. A failure is dropped: for the log, whose failure must not stop the work. */
  post(text: string): void;
  /** The reader has gone away. */
  readonly closed: boolean;
  readonly isTty: boolean;
  /** Width of the terminal, 80 when there is none. */
  readonly columns: number;
}

/** An output to a process's stdout or stderr. */
export function streamOutput(stream: NodeJS.WriteStream, name: string): Output {
  let closed = false;
  // The same errors come to the callback of write, which deals with them; without a listener they end the process.
  stream.on("error", () => {
    closed = true;
  });
  return {
    write: (text) =>
      new Promise((resolve, reject) => {
        if (closed) return resolve();
        stream.write(text, (error) => {
          if (!error) return resolve();
          closed = true;
          const { code } = error as NodeJS.ErrnoException;
          if (code === "EPIPE" || code === "ERR_STREAM_DESTROYED") return resolve();
          reject(outputError(name, error));
        });
      }),
    post: (text) => {
      if (!closed) stream.write(text);
    },
    get closed() {
      return closed;
    },
    isTty: stream.isTTY === true,
    get columns() {
      return stream.columns ?? 80;
    },
  };
}

function outputError(name: string, error: NodeJS.ErrnoException): PgFloError {
  return new PgFloError("STORAGE_FAILED", `${name}, write, failed (${error.code ?? error.name})`, {
    fix: "check where the output goes",
    cause: error,
  });
}

/** One JSON document and a line end. A bigint is a number where that is exact, else its digits as text. */
export async function printJson(output: Output, value: unknown): Promise<void> {
  const replacer = (_key: string, item: unknown) => (typeof item === "bigint" ? jsonInteger(item) : item);
  await output.write(`${JSON.stringify(value, replacer, output.isTty ? 2 : undefined)}\n`);
}

export type Cell = string | number | bigint | boolean | null | undefined;

/**
 * Rows under their column names, numbers to the right. Columns are those of the first row unless named; without rows
 * and names nothing is written.
 */
export async function printTable(
  output: Output,
  rows: readonly Readonly<Record<string, Cell>>[],
  columns: readonly string[] = Object.keys(rows[0] ?? {}),
): Promise<void> {
  if (columns.length === 0) return;
  const shown = columns.map((column) => [column, ...rows.map((row) => formatCell(row[column]))]);
  const widths = shown.map((cells) => Math.max(...cells.map(width)));
  const right = columns.map((column) => rows.length > 0 && rows.every((row) => isNumeric(row[column])));
  const lines = Array.from({ length: rows.length + 1 }, (_, line) =>
    shown
      .map((cells, index) => pad(cells[line]!, widths[index]!, right[index]!))
      .join("  ")
      .trimEnd(),
  );
  await output.write(`${lines.join("\n")}\n`);
}

function isNumeric(cell: Cell): boolean {
  return typeof cell === "number" || typeof cell === "bigint" || cell === null || cell === undefined;
}

function formatCell(cell: Cell): string {
  return cell === null || cell === undefined ? "" : escapeControls(String(cell));
}

function pad(text: string, columns: number, right: boolean): string {
  const blanks = " ".repeat(columns - width(text));
  return right ? blanks + text : text + blanks;
}

function width(text: string): number {
  return [...text].length;
}
