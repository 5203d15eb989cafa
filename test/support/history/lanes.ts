// Many histories, in several processes at the same time, and what to say when one of them is wrong.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { PostgresVersion } from "../postgres.ts";
import type { HistoryFigures } from "./history.ts";

export interface HistoriesOptions {
  readonly firstSeed: number;
  readonly seeds: number;
  /** Histories of a seed: they share a group and its workers. */
  readonly together: number;
  readonly lanes: number;
  readonly versions: readonly PostgresVersion[];
  /** Told of each seed when it has ended. */
  readonly tell?: (text: string) => void;
}

interface Line extends HistoryFigures {
  readonly seed: number;
  readonly version: PostgresVersion;
  readonly error?: string;
  /** The server's error, when it is its own. */
  readonly undecodable?: string;
}

/** About one in a hundred is seen. */
const UNDECODABLE_SHARE = 0.05;

/** Runs them all, and fails with every seed that was wrong and how to run it again. */
export async function runLanes(options: HistoriesOptions): Promise<string> {
  const { firstSeed, seeds, together, lanes } = options;
  const share = Math.ceil(seeds / lanes);
  const hits = new Map<string, number>();
  const ran = await Promise.all(
    Array.from({ length: lanes }, (_, lane) => {
      const count = Math.min(share, seeds - lane * share);
      const version = options.versions[lane % options.versions.length]!;
      return count <= 0
        ? []
        : runLane({ ...options, version, firstSeed: firstSeed + lane * share, seeds: count }, hits);
    }),
  );
  const lines = ran.flat();
  const wrong = lines.filter(({ error }) => error !== undefined);
  const again = ({ seed, version }: Line) =>
    `node test/support/history/lane.ts ${version} ${seed} 1 ${together}    # repeats seed ${seed}`;
  assert.equal(wrong.length, 0, wrong.map((line) => `${again(line)}\n${line.error}`).join("\n\n"));
  assert.equal(lines.length, seeds, "every seed ran");
  const decoded = lines.filter(({ undecodable }) => undecodable === undefined);
  const refused = seeds - decoded.length;
  assert.ok(
    refused <= Math.ceil(seeds * UNDECODABLE_SHARE),
    `the server could not decode the logs of ${refused} seeds`,
  );
  return `${summary(decoded, together, hits)}; of ${refused} more seeds the server could not decode its log`;
}

interface LaneOptions extends HistoriesOptions {
  readonly version: PostgresVersion;
}

async function runLane(options: LaneOptions, hits: Map<string, number>): Promise<Line[]> {
  const { version, firstSeed: first, seeds, together, tell } = options;
  const lines: Line[] = [];
  while (lines.length < seeds) {
    const args = [version, first + lines.length, seeds - lines.length, together].map(String);
    const lane = spawn(process.execPath, [fileURLToPath(new URL("./lane.ts", import.meta.url)), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const closed = once(lane, "close");
    const before = lines.length;
    let stderr = "";
    const reading = (async () => {
      for await (const text of createInterface(lane.stdout)) {
        const line = JSON.parse(text) as Line;
        lines.push(line);
        tell?.(`seed ${line.seed}, PostgreSQL ${version}: ${line.error ?? line.undecodable ?? "equal"}`);
      }
    })();
    for await (const line of createInterface(lane.stderr)) {
      const [, name] = /^failpoint ([\w.-]+): /.exec(line) ?? [];
      if (name === undefined) stderr += `${line}\n`;
      else hits.set(name, (hits.get(name) ?? 0) + 1);
    }
    await reading;
    const [code] = await closed;
    if (lines.length > before && (code === 0 || !("states" in lines.at(-1)!))) continue; // it ends after one that is not equal
    throw new Error(`the lane from seed ${first + lines.length} ended with ${code}: ${stderr}`);
  }
  return lines;
}

function summary(lines: readonly Line[], together: number, hits: ReadonlyMap<string, number>): string {
  const sum = (of: (line: Line) => number) =>
    lines.reduce((total, line) => total + of(line), 0).toLocaleString("en-US");
  const ways = Map.groupBy(
    lines.flatMap((line) => line.ways),
    (way) => way.split(" ")[0]!,
  );
  const told = [...ways].map(([way, all]) => `${all.length} ${way}`).join(", ");
  return `${lines.length * together} histories (${lines.length} seeds): ${sum((line) => line.commits)} commits, ${sum((line) => line.states)} states of tables
compared with the source, ${sum((line) => line.batches)} batches in ${sum((line) => line.files)} files; ${sum((line) => line.operations)} operations in, ${sum((line) => line.changes)} rows out;
workers: ${told};
failpoints that were met: ${hits.size}, ${[...hits.values()].reduce((a, b) => a + b, 0)} times`;
}
