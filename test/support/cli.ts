// Runs the command line as its users do: bin/pg-flo.js in a process of its own.
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

export interface CliOptions {
  readonly cwd?: string;
  /** On top of this process's environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Ends the process with SIGKILL. */
  readonly timeoutMs?: number;
}

export interface CliResult {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliProcess extends AsyncDisposable {
  readonly pid: number;
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  /** What it wrote so far. */
  readonly stdout: string;
  readonly stderr: string;
  readonly running: boolean;
  kill(signal?: NodeJS.Signals): void;
  readonly ended: Promise<CliResult>;
  /** Resolves when stdout and stderr together match; rejects when the process ends before, or after two minutes. */
  saw(pattern: RegExp): Promise<void>;
}

/** Processes and threads by the hundred: half of a short one's CPU time is compiling. */
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL("../../node_modules/.cache/compiled", import.meta.url));

const binary = fileURLToPath(new URL("../../bin/pg-flo.js", import.meta.url));
const defaultTimeoutMs = 120_000;
const SEEN_WITHIN_MS = 120_000;

/** Runs to the end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return spawnCli(args, options).ended;
}

/** Starts it, to be watched and killed. Disposing kills it with SIGKILL and waits. */
export function spawnCli(args: readonly string[], options: CliOptions = {}): CliProcess {
  const child = spawn(process.execPath, [binary, ...args], {
    cwd: options.cwd,
    env: { ...process.env, NO_COLOR: "1", ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: options.timeoutMs ?? defaultTimeoutMs,
    killSignal: "SIGKILL",
  });
  const written = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    written.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    written.stderr += text;
  });
  const ended = new Promise<CliResult>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal, ...written }));
  });
  return {
    pid: child.pid ?? 0,
    child,
    ended,
    get stdout() {
      return written.stdout;
    },
    get stderr() {
      return written.stderr;
    },
    get running() {
      return child.exitCode === null && child.signalCode === null;
    },
    kill: (signal = "SIGKILL") => void child.kill(signal),
    saw: (pattern) => waitForOutput(child, () => `${written.stdout}\n${written.stderr}`, pattern),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

function waitForOutput(child: CliProcess["child"], output: () => string, pattern: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (!pattern.test(output())) return;
      done();
      resolve();
    };
    const fail = (what: string) => {
      done();
      if (pattern.test(output())) resolve();
      else reject(new Error(`the process ${what} it wrote ${pattern}:\n${output()}`));
    };
    const closed = () => fail("ended before");
    const late = setTimeout(() => fail(`ran for ${SEEN_WITHIN_MS} ms before`), SEEN_WITHIN_MS);
    const done = () => {
      clearTimeout(late);
      child.stdout.off("data", look);
      child.stderr.off("data", look);
      child.off("close", closed);
    };
    child.stdout.on("data", look);
    child.stderr.on("data", look);
    child.on("close", closed);
    look();
  });
}
