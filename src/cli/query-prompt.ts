// The prompt of `pg-flo query`: SQL statements that end with a semicolon, and a few commands. An error is told and the
// prompt goes on; Ctrl-C drops what was typed, Ctrl-D ends.
import { createInterface } from "node:readline";
import { splitStatements } from "./sql-statements.ts";

export interface PromptOptions {
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WritableStream;
  readonly terminal: boolean;
  /** Runs one statement; what it throws is given to `onError`. */
  readonly run: (sql: string) => Promise<void>;
  /** Lists the views. */
  readonly list: () => Promise<void>;
  readonly onError: (error: unknown) => Promise<void>;
}

const help = `\\d          the tables and their views
\\d VIEW     the columns of one
\\q          quit (as Ctrl-D does)
SELECT …;   any SELECT of DuckDB; it ends with a semicolon and may have many lines
`;

/** Runs until `\q` or the end of the input. */
export async function runPrompt(options: PromptOptions): Promise<void> {
  const { input, output, terminal } = options;
  const reader = createInterface({ input, output, terminal, historySize: 1000 });
  let typed = "";
  let ended = false; // lines may still be waiting
  reader.once("close", () => {
    ended = true;
  });
  const prompt = () => {
    if (ended) return;
    reader.setPrompt(typed === "" ? "pg-flo> " : "   ...> ");
    reader.prompt();
  };
  reader.on("SIGINT", () => {
    typed = "";
    output.write("\n");
    prompt();
  });
  try {
    prompt();
    for await (const line of reader) {
      if (typed === "" && line.trim().startsWith("\\")) {
        if (!(await runCommand(line.trim(), options))) return;
      } else {
        const { complete, rest } = splitStatements(`${typed}${line}\n`);
        typed = rest === "" ? "" : `${rest}\n`;
        for (const sql of complete) await guarded(options, () => options.run(sql));
      }
      prompt();
    }
  } finally {
    reader.close();
  }
}

/** False: quit. */
async function runCommand(command: string, options: PromptOptions): Promise<boolean> {
  const [name, argument] = command.split(/\s+(.*)/s);
  if (name === "\\q") return false;
  if (name === "\\d" && argument) await guarded(options, () => options.run(`DESCRIBE ${argument.replace(/;$/, "")}`));
  else if (name === "\\d") await guarded(options, options.list);
  else options.output.write(help);
  return true;
}

async function guarded({ onError }: PromptOptions, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    await onError(error);
  }
}
