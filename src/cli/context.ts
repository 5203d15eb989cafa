// What every command is given, and what it does first: read the config, open the log.
import type { Command } from "commander";
import { createLog, type Log, type LogLevel } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load.ts";
import type { Output } from "./output.ts";

/** The world outside of the program. Tests give their own. */
export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Output;
  readonly stderr: Output;
}

/** Options that every command takes. */
export interface GlobalOptions {
  readonly config: string;
  readonly json?: boolean;
  readonly logLevel: LogLevel;
}

/** Adds one command to the program. Each command's file exports one. */
export type Register = (program: Command, context: CliContext) => void;

/** One call of a command. `O` are the command's own options, as commander names them. */
export interface Invocation<O> extends CliContext {
  readonly globals: GlobalOptions;
  readonly options: O;
  /** Positional arguments. */
  readonly args: readonly unknown[];
  readonly log: Log;
}

/** Makes an action for commander of a function. What it throws becomes the message and the exit code (failure.ts). */
export function withLog<O = object>(context: CliContext, action: (invocation: Invocation<O>) => Promise<void>) {
  // Commander calls with the arguments, the command's own options and the command.
  return async (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command;
    const globals = command.optsWithGlobals<GlobalOptions>();
    const log = openLog(context, globals.json === true, globals.logLevel);
    await action({ ...context, globals, options: command.opts() as O, args: given.slice(0, -2), log });
  };
}

/** The same for a command that needs the config: CONFIG_INVALID before the action is called if it is wrong. */
export function withConfig<O = object>(
  context: CliContext,
  action: (invocation: Invocation<O> & { readonly config: Config }) => Promise<void>,
) {
  return withLog<O>(context, async (invocation) => {
    await action({ ...invocation, config: loadConfig(invocation.globals.config, context.env) });
  });
}

/** The log to stderr, for people or as JSON lines. */
export function openLog(context: CliContext, json: boolean, level: LogLevel): Log {
  const tty = context.stderr.isTty && !context.env.NO_COLOR;
  return createLog({ json, level, tty, write: (line) => context.stderr.post(line) });
}
