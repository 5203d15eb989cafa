// `pg-flo query`: SQL over the mirror. DuckDB reads the files that the manifest lists; the source is not asked, except
// for a user-defined type that no file tells.
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { Option } from "commander";
import { PgFloError } from "../base/errors.ts";
import { type Lsn, lsn, parseLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { readGroup } from "../metadata/groups.ts";
import { type Manifest, readManifest } from "../metadata/status.ts";
import { type PgType, readTypes } from "../postgres/catalog.ts";
import { cachedFiles, type FileSource, localFiles } from "../query/file-source.ts";
import { manifestTables } from "../query/manifest-tables.ts";
import { type Mirror, openMirror } from "../query/mirror.ts";
import { type QueryFormat, type QueryOutput, queryFormats, writeResult } from "../query/output.ts";
import { openStorage } from "../storage/open.ts";
import type { CliContext, Invocation, Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { reportFailure } from "./failure.ts";
import { type Output, printJson, printTable } from "./output.ts";
import { runPrompt } from "./query-prompt.ts";
import { withSession } from "./session.ts";
import { splitStatements } from "./sql-statements.ts";

interface QueryOptions {
  readonly format?: QueryFormat;
  readonly output?: string;
  readonly at?: string;
  readonly tables?: boolean;
  readonly cache?: string;
}

const CACHE_BYTES_MAX = 20e9;

export const registerQuery: Register = (program, context) => {
  program
    .command("query")
    .description("run SQL over the mirror; without SQL it prompts, or reads statements from standard input")
    .argument("[sql]", "one SELECT, as DuckDB understands it")
    .addOption(new Option("--format <format>", "how the result is written").choices(queryFormats))
    .option("-o, --output <file>", "write the result to this file (needed for parquet)")
    .option("--at <position>", "show the state at this position: an LSN (0/16B3748) or its number")
    .option("--cache <folder>", "where files of a bucket are kept for the next query (default: ~/.cache/pg-flo)")
    .option("--tables", "list the tables and their views")
    .action(withConfig<QueryOptions>(context, (invocation) => runQuery(invocation)));
};

type QueryInvocation = Invocation<QueryOptions> & { readonly config: Config };

async function runQuery(invocation: QueryInvocation): Promise<void> {
  const { config, options, args, log, globals } = invocation;
  const format = options.format ?? (globals.json ? "json" : "table");
  const at = options.at === undefined ? undefined : parsePosition(options.at);
  const [sql] = args as readonly (string | undefined)[];
  if (format === "parquet" && options.output === undefined && !options.tables) {
    throw wrongUsage("--format parquet needs a file for the result", "name it with --output FILE");
  }
  const manifest = await readGroupManifest(config);
  const files = fileSource(invocation, manifest);
  const tables = await manifestTables(manifest, { files, readTypes: () => readSourceTypes(config) });
  await using mirror = await openMirror(tables, { fetch: files.fetch, ...(at === undefined ? {} : { at }) });
  const notices = [...mirror.notices, ...manifestNotices(manifest, openStorage(config.storage).url)];
  for (const notice of noticesFor(notices, manifest, sql)) log.warn(notice);
  if (options.tables) return await listViews(invocation.stdout, mirror, manifest, globals.json === true);
  const run = (statement: string) => writeStatement(invocation, mirror, statement, format);
  if (sql !== undefined) return await run(sql); // the mirror is open until then
  if (process.stdin.isTTY && invocation.stdout.isTty) return await prompt(invocation, mirror, manifest, run);
  const { complete, rest } = splitStatements(await readAll(process.stdin));
  const statements = rest === "" ? complete : [...complete, rest];
  if (statements.length === 0) throw wrongUsage("there is no SQL", "give it as an argument or on standard input");
  if (statements.length > 1 && options.output !== undefined) {
    throw wrongUsage(`--output takes one result, there are ${statements.length}`, "give one statement");
  }
  for (const statement of statements) await run(statement);
}

/** A cache of its own for each storage, as two may have files of the same name. */
export function fileSource(
  {
    config,
    options,
    env,
    log,
  }: Pick<QueryInvocation, "config" | "env" | "log"> & { readonly options: { readonly cache?: string } },
  manifest: Manifest,
): FileSource {
  if (config.storage.kind === "local") return localFiles(config.storage.root);
  const storage = openStorage(config.storage);
  const cache = options.cache ?? join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "pg-flo");
  const folder = join(resolve(cache), createHash("sha256").update(storage.url).digest("hex").slice(0, 16));
  const onFetch = (files: number, sizeBytes: number) => {
    log.info("fetching the files that the query needs", { files, sizeBytes, from: storage.url, folder });
  };
  return cachedFiles({ storage, manifest, folder, sizeBytesMax: CACHE_BYTES_MAX, onFetch });
}

async function readGroupManifest(config: Config): Promise<Manifest> {
  return withSession(config.metadata, { group: config.group, what: "query" }, async (client) => {
    await readGroup(client, config.group);
    return readManifest(client, config.group);
  });
}

// Only an empty table with a column of such a type needs them: that its column is shown as text is no reason to fail.
async function readSourceTypes(config: Config): Promise<ReadonlyMap<number, PgType> | null> {
  try {
    return await withSession(config.source, { group: config.group, what: "query" }, readTypes);
  } catch (error) {
    if (error instanceof PgFloError && error.code !== "INTERNAL") return null;
    throw error;
  }
}

async function writeStatement(
  invocation: QueryInvocation,
  mirror: Mirror,
  sql: string,
  format: QueryFormat,
): Promise<void> {
  const { output: file } = invocation.options;
  const output: QueryOutput = file === undefined ? { stream: writableOf(invocation.stdout) } : { file };
  try {
    await writeResult(mirror, sql, format, output);
  } catch (error) {
    if (error instanceof ReaderGone) return;
    if (file === undefined || error instanceof PgFloError) throw error;
    const reason = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new PgFloError("QUERY_FAILED", `write the result to ${file}, failed (${reason})`, {
      fix: "name a file in a folder that this user may write",
      cause: error,
    });
  }
}

class ReaderGone extends Error {}

/** Back-pressure, and an early end when the reader has gone away. */
function writableOf(output: Output): Writable {
  const decoder = new StringDecoder("utf8"); // a character may be cut in two
  return new Writable({
    write(part: Buffer, _encoding, done) {
      output.write(decoder.write(part)).then(() => done(output.closed ? new ReaderGone() : null), done);
    },
  });
}

async function prompt(
  invocation: QueryInvocation,
  mirror: Mirror,
  manifest: Manifest,
  run: (sql: string) => Promise<void>,
): Promise<void> {
  const { stdout, globals } = invocation;
  const context: CliContext = invocation;
  await stdout.write(
    `${mirror.views.length} tables of group ${manifest.group}; \\d lists them, \\? helps, \\q quits\n`,
  );
  await runPrompt({
    input: process.stdin,
    output: process.stdout,
    terminal: true,
    run,
    list: () => listViews(stdout, mirror, manifest, false),
    onError: async (error) => {
      await reportFailure(error, context, { json: false, level: globals.logLevel });
    },
  });
}

async function listViews(output: Output, mirror: Mirror, manifest: Manifest, json: boolean): Promise<void> {
  const byName = new Map(
    manifest.tables.map((entry) => [JSON.stringify([entry.table.schema, entry.table.name]), entry]),
  );
  const views = mirror.views.map(({ table, schema, state, changes }) => {
    const entry = byName.get(JSON.stringify([table.schema, table.name]))!;
    const rows = { copyRows: entry.table.copyRows, changeRows: entry.table.changeRows };
    return {
      schema: table.schema,
      name: table.name,
      ...named(schema, state, changes),
      state: entry.table.state,
      ...rows,
    };
  });
  if (json) return printJson(output, { tables: views });
  await printTable(
    output,
    views.map(({ schema, name, ...view }) => ({ table: `${schema}.${name}`, ...view })),
    ["table", "view", "history", "state", "copyRows", "changeRows"],
  );
}

function named(schema: string, state: string, changes: string): { readonly view: string; readonly history: string } {
  return { view: `${quoted(schema)}.${quoted(state)}`, history: `${quoted(schema)}.${quoted(changes)}` };
}

/** As it has to be written in a query: quoted where it must be. */
function quoted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) && !/^(select|from|where|order|group|table|user|all|end|default)$/.test(name)
    ? name
    : `"${name.replaceAll('"', '""')}"`;
}

function manifestNotices(manifest: Manifest, storageRoot: string): string[] {
  const notices = manifest.tables.flatMap(({ table }) => {
    const name = `${table.schema}.${table.name}`;
    if (table.state === "pending") return [`${name}: not copied yet, it is empty here`];
    if (table.state === "copying") {
      return [
        `${name}: still being copied (${table.rangesDone} of ${table.rangesTotal ?? "?"} ranges), rows are missing`,
      ];
    }
    if (table.state === "error") return [`${name}: stopped with an error, what came after is missing`];
    if (table.state === "paused") return [`${name}: paused, what came after is missing`];
    if (table.state === "removed") return [`${name}: no longer mirrored, what came after is missing`];
    return [];
  });
  return manifest.storageUrl === storageRoot
    ? notices
    : [`the group's files are in ${manifest.storageUrl}, the config says ${storageRoot}`, ...notices];
}

/** Those of tables that the query does not name are left out. */
function noticesFor(notices: readonly string[], manifest: Manifest, sql: string | undefined): readonly string[] {
  if (sql === undefined) return notices;
  const text = sql.toLowerCase().replaceAll('""', '"');
  const others = manifest.tables.filter(({ table }) => !text.includes(table.name.toLowerCase()));
  return notices.filter((notice) => !others.some(({ table }) => notice.startsWith(`${table.schema}.${table.name}: `)));
}

/** `X/Y`, or the number that `_pg_flo_lsn` has. */
export function parsePosition(text: string): Lsn {
  try {
    return /^\d{1,20}$/.test(text) ? lsn(BigInt(text)) : parseLsn(text);
  } catch {
    throw wrongUsage(`--at is ${JSON.stringify(text)}, allowed are an LSN such as 0/16B3748 and its number`);
  }
}

function wrongUsage(what: string, fix = "run pg-flo query --help"): PgFloError {
  return new PgFloError("CONFIG_INVALID", `command line, ${what}`, { fix });
}

async function readAll(input: NodeJS.ReadStream): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of input) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("utf8");
}
