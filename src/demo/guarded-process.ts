// Runs a program that must not outlive this process, however this process ends, SIGKILL included.
// A small shell stands between: it holds one end of a pipe whose other end dies with us.
import { type ChildProcess, spawn } from "node:child_process";
import { open } from "node:fs/promises";
import type { PosixUser } from "./postgres-binaries.ts";

/**
 * $1: folder that is removed if we die. Then the program. The shell ends with the program, with its exit code.
 * The watcher's end of file means that we are gone: SIGQUIT is PostgreSQL's immediate shutdown.
 */
const guardScript = `
folder=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
( read -r nothing <&3; kill -QUIT "$program"; exit 0 ) >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$program"; code=$?
kill "$watcher" 2>/dev/null
if wait "$watcher" 2>/dev/null; then rm -rf "$folder"; fi
exit "$code"
`;

export interface GuardedProcess {
  /** Resolves with the exit code, 128 + number for a signal. */
  readonly ended: Promise<number>;
  /** Null until it has ended. */
  readonly exitCode: number | null;
}

export interface GuardedOptions {
  readonly folder: string;
  readonly logFile: string;
  readonly user: PosixUser | null;
  readonly env: Readonly<Record<string, string>>;
}

/** Starts `command` with stdout and stderr appended to the log file. Rejects when it cannot be spawned. */
export async function startGuarded(command: readonly string[], options: GuardedOptions): Promise<GuardedProcess> {
  const log = await open(options.logFile, "a");
  let guard: ChildProcess;
  try {
    guard = spawn("/bin/sh", ["-c", guardScript, "pg-flo-guard", options.folder, ...command], {
      cwd: options.folder,
      env: options.env,
      stdio: ["pipe", log.fd, log.fd],
      detached: true, // a process group of its own: Ctrl-C is for us, we stop the server in order
      ...options.user,
    });
    await new Promise<void>((resolve, reject) => guard.once("spawn", resolve).once("error", reject));
  } finally {
    await log.close();
  }
  guard.stdin?.on("error", () => {}); // EPIPE when the guard ended: `ended` tells
  const state = { exitCode: null as number | null };
  const ended = new Promise<number>((resolve) => {
    guard.once("exit", (code, signal) => {
      state.exitCode = code ?? (signal ? 255 : 0);
      guard.stdin?.destroy();
      resolve(state.exitCode);
    });
  });
  return {
    ended,
    get exitCode() {
      return state.exitCode;
    },
  };
}
