// The command line: global options, the table of commands, exit codes. Commands are in files of their own.
import { setFlagsFromString } from "node:v8";
import { Command, Option } from "commander";
import { LOG_LEVELS, type LogLevel } from "../base/log.ts";
import { version } from "../base/version.ts";
import { registerCheck } from "./check.ts";
import { registerClean } from "./clean.ts";
import { registerCompact } from "./compact.ts";
import type { CliContext, Register } from "./context.ts";
import { registerDemo } from "./demo.ts";
import { registerDrop } from "./drop.ts";
import { EXIT_DONE, EXIT_FAILED, type FailureStyle, reportFailure } from "./failure.ts";
import { registerInit } from "./init.ts";
import { streamOutput } from "./output.ts";
import { registerQuery } from "./query.ts";
import { registerReload } from "./reload.ts";
import { registerReplicate } from "./replicate.ts";
import { registerStatus } from "./status.ts";
import { registerTableRequests } from "./table-requests.ts";
import { registerVerify } from "./verify.ts";

/** Every command, in the order of the help. */
export const registeredCommands: readonly Register[] = [
  registerInit,
  registerCheck,
  registerReplicate,
  registerStatus,
  registerVerify,
  registerQuery,
  registerCompact,
  registerTableRequests,
  registerReload,
  registerClean,
  registerDrop,
  registerDemo,
];

/**
 * How much of the heap may be garbage before a full collection, of what is alive. Objects are few here and memory is
 * buffers, which V8 counts too: as it comes it would collect after every ten megabytes of pages, a tenth of all CPU time.
 */
const HEAP_GROWING_PERCENT = 400;

/** Runs the process: command line in, exit code out. Called by bin/start.js. */
export async function main(): Promise<void> {
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`);
  const context: CliContext = {
    env: process.env,
    stdout: streamOutput(process.stdout, "standard output"),
    stderr: streamOutput(process.stderr, "standard error"),
  };
  const args = process.argv.slice(2);
  // Rejections that nobody handles come here too. The state is unknown: say so and end.
  process.on("uncaughtException", (error) => {
    void reportFailure(error, context, styleOf(args)).finally(() => process.exit(EXIT_FAILED));
  });
  const code = await runCommandLine(args, context);
  const flushed = await flush(context, code, args);
  process.exit(code === EXIT_DONE ? flushed : code);
}

/** Waits until stdout has taken everything; that it could not is a failure only where there is no other. */
async function flush(context: CliContext, code: number, args: readonly string[]): Promise<number> {
  try {
    await context.stdout.write("");
    return EXIT_DONE;
  } catch (error) {
    return code === EXIT_DONE ? reportFailure(error, context, styleOf(args)) : EXIT_FAILED;
  }
}

/** Runs one command line (without node and the script) and returns its exit code. Never throws. */
export async function runCommandLine(args: readonly string[], context: CliContext): Promise<number> {
  try {
    await createProgram(context, registeredCommands).parseAsync(args, { from: "user" });
    return EXIT_DONE;
  } catch (error) {
    return reportFailure(error, context, styleOf(args));
  }
}

/** The program with its commands, not yet run. */
export function createProgram(context: CliContext, commands: readonly Register[]): Command {
  const program = new Command("pg-flo")
    .description("PostgreSQL to Parquet on local disk or S3, kept current from the write-ahead log.")
    .version(version, "--version")
    .option("--config <file>", "the config", "pg-flo.yaml")
    .option("--json", "machine-readable output on stdout, JSON log lines on stderr")
    .addOption(new Option("--log-level <level>", "what is logged").choices(LOG_LEVELS).default("info"))
    .helpOption("--help", "show this help")
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.post(text),
      writeErr: (text) => context.stderr.post(text),
      outputError: () => {}, // reportFailure tells it
    });
  for (const register of commands) register(program, context);
  return program;
}

/** How to tell a failure, read from the arguments as they are: they may be what is wrong. */
function styleOf(args: readonly string[]): FailureStyle {
  const end = args.indexOf("--");
  const options = end < 0 ? args : args.slice(0, end);
  const debug: LogLevel = "debug";
  const next = options[options.indexOf("--log-level") + 1];
  const isDebug = options.includes(`--log-level=${debug}`) || (options.includes("--log-level") && next === debug);
  return { json: options.includes("--json"), level: isDebug ? debug : "info" };
}
