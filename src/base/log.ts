// The log: lines to stderr, for people or (JSON) for machines. Modules depend on `Log`, never on the library behind it.
// Secrets are hidden here once more, whoever passed them; row values must never be passed.
import pino from "pino";
import { PgFloError } from "./errors.ts";
import { isSecretName, maskSecrets } from "./secrets.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
export const LOG_LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/** Facts are flat. Names are camelCase with the unit last (`sizeBytes`). Undefined ones are left out. */
export type LogFacts = Readonly<Record<string, string | number | bigint | boolean | null | undefined>>;

export interface Log {
  debug(message: string, facts?: LogFacts): void;
  info(message: string, facts?: LogFacts): void;
  warn(message: string, facts?: LogFacts): void;
  error(message: string, facts?: LogFacts): void;
  /** A log that adds these facts to every line. */
  child(facts: LogFacts): Log;
}

export interface LogOptions {
  /** JSON lines instead of lines for people. */
  readonly json: boolean;
  readonly level: LogLevel;
  /** Colours and short times, for lines that are not JSON. */
  readonly tty: boolean;
  /** Takes whole lines, with their line ends. Default: stderr. */
  readonly write?: (line: string) => void;
  readonly now?: () => Date;
}

/** Makes a log. A line never throws, and is written when the call returns (stderr of a main thread is synchronous). */
export function createLog(options: LogOptions): Log {
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const now = options.now ?? (() => new Date());
  if (!options.json) {
    const minimum = LOG_LEVELS.indexOf(options.level);
    return logOf({}, (level, message, facts) => {
      if (LOG_LEVELS.indexOf(level) >= minimum) write(`${formatLine(now(), level, message, facts, options.tty)}\n`);
    });
  }
  const json = pino(
    {
      base: null,
      level: options.level,
      messageKey: "message",
      timestamp: () => `,"time":${JSON.stringify(now().toISOString())}`,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write },
  );
  return logOf({}, (level, message, facts) => json[level](jsonFacts(facts), message));
}

/** A log that drops everything, for tests and for work whose output is its result. */
export const silentLog: Log = logOf({}, () => {});

/** An error as facts of a line: its code, its message, its own facts. The stack only goes into debug lines. */
export function errorFacts(error: unknown): LogFacts {
  if (error instanceof PgFloError) return { ...error.facts, code: error.code, error: error.message };
  return { code: "INTERNAL", error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
}

type Emit = (level: LogLevel, message: string, facts: LogFacts) => void;

function logOf(inherited: LogFacts, emit: Emit): Log {
  const at = (level: LogLevel) => (message: string, facts?: LogFacts) =>
    emit(level, maskSecrets(message), hideSecrets(facts ? { ...inherited, ...facts } : inherited));
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (facts) => logOf({ ...inherited, ...facts }, emit),
  };
}

function hideSecrets(facts: LogFacts): LogFacts {
  const shown: Record<string, LogFacts[string]> = {};
  for (const [name, value] of Object.entries(facts)) {
    if (value === undefined) continue;
    shown[name] = isSecretName(name) ? "***" : typeof value === "string" ? maskSecrets(value) : value;
  }
  return shown;
}

/** JSON has no bigint, and the keys of the line itself stay what they are. */
function jsonFacts(facts: LogFacts): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [
      ["level", "time", "message"].includes(name) ? `${name}_` : name,
      typeof value === "bigint" ? jsonInteger(value) : value,
    ]),
  );
}

/** A number where a double holds it exactly, else its digits as text. */
export function jsonInteger(value: bigint): number | string {
  return BigInt.asIntN(53, value) === value ? Number(value) : value.toString();
}

const COLOURS: Readonly<Record<LogLevel, string>> = { debug: "2", info: "32", warn: "33", error: "31" };

/** `2026-01-31T10:11:12.123Z info  copied range table=public.orders rows=1000`, one line whatever the values hold. */
function formatLine(now: Date, level: LogLevel, message: string, facts: LogFacts, tty: boolean): string {
  const time = tty ? now.toTimeString().slice(0, 8) : now.toISOString();
  const label = level.padEnd(5);
  const shownLevel = tty ? `\u001b[${COLOURS[level]}m${label}\u001b[0m` : label;
  const shownFacts = Object.entries(facts).map(([name, value]) => ` ${name}=${formatFact(value)}`);
  return `${time} ${shownLevel} ${escapeControls(message)}${shownFacts.join("")}`;
}

function formatFact(value: LogFacts[string]): string {
  const text = String(value);
  return text === "" || /[\s"=\\]/.test(text) ? escapeControls(JSON.stringify(text)) : escapeControls(text);
}

/** Line ends and terminal escapes become visible: a table's name must not write lines or colours of its own. */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (character) =>
    character === "\n" ? "\\n" : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
