// What workers told of themselves with their last heartbeat, as far as it is there: another version may have told it.
import type { Stream } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import type { SourceStatus } from "./source-status.ts";

interface ToldBy {
  readonly id: string;
  readonly alive: boolean;
  readonly figures: unknown;
}

/** A number of `{streams: [{stream, lagMs, …}]}`. */
export function streamFigure(figures: unknown, stream: number, name: string): number | null {
  const value = property(streamFigures(figures, stream), name);
  return typeof value === "number" ? value : null;
}

/**
 * How far a table's files are behind: of a table that has changes which are read and not durable, from the stream's
 * position on; of another one only what is not read. Null unless it streams and a worker lives.
 */
export function tableLag(
  table: Table,
  streams: readonly Stream[],
  workers: readonly ToldBy[],
  source: SourceStatus | null,
): { readonly lagBytes: number | null; readonly lagMs: number | null } {
  const stream = streams.find((each) => each.stream === table.stream);
  const owner = workers.find(({ id, alive }) => alive && id === stream?.owner);
  if (table.state !== "streaming" || !stream || stream.position === null || !owner)
    return { lagBytes: null, lagMs: null };
  const told = streamFigures(owner.figures, stream.stream);
  const lagging = property(told, "lagging");
  const lag = property(lagging, String(table.tableId));
  const count = property(told, "laggingCount");
  if (typeof count !== "number" || typeof lagging !== "object" || lagging === null)
    return { lagBytes: null, lagMs: null };
  // Not named among too many that lag: it may lag as much as its stream.
  const unnamed = lag === undefined && count > Object.keys(lagging).length;
  const lagMs = typeof lag === "number" ? lag : unnamed ? streamFigure(owner.figures, stream.stream, "lagMs") : 0;
  const read = BigInt(String(property(told, "reached") ?? 0));
  const upTo = lag === undefined && !unnamed && read > stream.position ? read : stream.position;
  const behind = source && source.walPosition - upTo;
  return { lagBytes: behind === null ? null : Math.max(0, Number(behind)), lagMs };
}

function streamFigures(figures: unknown, stream: number): unknown {
  const streams = property(figures, "streams");
  return Array.isArray(streams) ? streams.find((each) => property(each, "stream") === stream) : undefined;
}

export function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}
