// How a failed command ends: one message on stderr and an exit code. Stacks are for `--log-level debug` only.
import { CommanderError } from "commander";
import { PgFloError } from "../base/errors.ts";
import { escapeControls, type LogLevel } from "../base/log.ts";
import { maskSecrets } from "../base/secrets.ts";
import { type CliContext, openLog } from "./context.ts";

export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

export interface FailureStyle {
  readonly json: boolean;
  readonly level: LogLevel;
}

/** Tells what went wrong and returns the exit code. Help and version, which commander throws too, are no failures. */
export async function reportFailure(error: unknown, context: CliContext, style: FailureStyle): Promise<number> {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT_DONE;
    if (error.code === "commander.help") return EXIT_USAGE; // no command was named: the help has been shown
  }
  const failure = asPgFloError(error);
  const stack = style.level === "debug" ? stackOf(failure) : undefined;
  if (style.json) {
    const log = openLog(context, true, "error");
    log.error(failure.message, { ...failure.facts, code: failure.code, fix: failure.fix, stack });
  } else {
    await context.stderr.write(`${readable(stack ?? failure.message)}\n`);
  }
  return failure.code === "CONFIG_INVALID" ? EXIT_USAGE : EXIT_FAILED;
}

/** Every error as one that a user can read. What nobody expected is INTERNAL. */
export function asPgFloError(error: unknown): PgFloError {
  if (error instanceof PgFloError) return error;
  if (error instanceof CommanderError) {
    const what = error.message.replace(/^error: |\.$/g, "").replace(/\s*\n\s*/g, " ");
    return new PgFloError("CONFIG_INVALID", `command line, ${what}`, { fix: "run pg-flo --help" });
  }
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new PgFloError("INTERNAL", what, {
    fix: "this is a defect of pg-flo; report it with what --log-level debug prints",
    cause: error,
  });
}

function stackOf(error: PgFloError): string {
  const stacks: string[] = [];
  for (let next: unknown = error; next instanceof Error && stacks.length < 10; next = next.cause) {
    stacks.push(next.stack ?? next.message);
  }
  return stacks.join("\ncaused by: ");
}

/** Lines stay lines; everything else that a terminal would obey does not. */
function readable(text: string): string {
  return maskSecrets(text).split("\n").map(escapeControls).join("\n");
}
