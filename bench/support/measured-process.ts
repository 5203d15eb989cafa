// Runs a program and measures it from outside: wall time, CPU time of all its threads, peak memory.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Measured {
  readonly wallMs: number;
  /** User and system time, from /proc: the last reading before the end, so up to 10 ms short. */
  readonly cpuMs: number;
  readonly peakBytes: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface MeasureOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Ends the program with SIGINT as soon as it is true of its stderr; asked every 10 ms. */
  readonly until?: () => boolean;
}

const SAMPLE_MS = 10;
const CLOCK_TICKS_PER_SECOND = 100; // getconf CLK_TCK, the same on every Linux that node runs on

/** Throws when the program fails. stdout goes to /dev/null unless `keepOutput`. */
export async function measure(
  command: string,
  args: readonly string[],
  options: MeasureOptions & { readonly keepOutput?: boolean } = {},
): Promise<Measured> {
  const started = performance.now();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ["ignore", options.keepOutput ? "pipe" : "ignore", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  let last = { cpuMs: 0, peakBytes: 0 };
  let interrupted = false;
  const timer = setInterval(() => {
    last = readUsage(child.pid!) ?? last;
    if (!interrupted && options.until?.()) {
      interrupted = true;
      child.kill("SIGINT");
    }
  }, SAMPLE_MS);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  clearInterval(timer);
  const wallMs = performance.now() - started;
  if (code !== 0 && !interrupted) throw new Error(`${command} ended with ${code}:\n${stderr}`);
  return { wallMs, ...last, stdout, stderr };
}

export interface Usage {
  readonly cpuMs: number;
  readonly peakBytes: number;
}

/** Of a process of ours that runs; null when it does not any more. */
export function readUsage(pid: number): Usage | null {
  try {
    // Fields 14 and 15 of stat are utime and stime; the command's name, in brackets, may hold blanks.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    if (!peak) return null; // it has ended and was not waited for yet
    return { cpuMs: (ticks * 1000) / CLOCK_TICKS_PER_SECOND, peakBytes: Number(peak[1]) * 1024 };
  } catch {
    return null; // it has ended
  }
}

/** The middle one by wall time. */
export function median<T extends { readonly wallMs: number }>(runs: readonly T[]): T {
  return [...runs].sort((a, b) => a.wallMs - b.wallMs)[Math.floor(runs.length / 2)]!;
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

export function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
