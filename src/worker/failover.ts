// After a failover: whether the new primary has everything that is durable here, and what the position is on it.
// What it lacks cannot be found out later: its own transactions have the LSNs of the lost ones, and would be skipped.
import { PgFloError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { Stream, StreamFence } from "../metadata/streams.ts";
import { moveToTimeline, setTimeline } from "../metadata/timelines.ts";
import type { ReplicationConnection } from "../postgres/replication.ts";
import { timelineEnd } from "../postgres/timeline.ts";

/**
 * Gives the position from which the stream goes on at this server. Null: the stream was fenced out. SOURCE_REWOUND: the
 * server lacks transactions that the files have.
 */
export async function followTimeline(
  db: Queryable,
  { fence, stream, log }: { readonly fence: StreamFence; readonly stream: Stream; readonly log: Log },
  connection: ReplicationConnection,
): Promise<Lsn | null> {
  const position = stream.position!;
  const { timeline, xlogPos } = await connection.identifySystem();
  if (timeline === stream.timeline || stream.timeline === null) {
    // Nothing is sent before it is flushed, so a log that ends before the position is an older state of the server.
    if (xlogPos <= position) throw rewound(stream, `its log ends at ${formatLsn(xlogPos)}`, position);
    return stream.timeline === timeline || (await setTimeline(db, fence, timeline)) ? position : null;
  }
  const start = timelineEnd(await connection.timelineHistory(timeline), stream.timeline);
  if (start === null) {
    throw rewound(stream, `its timeline ${timeline} does not descend from ${stream.timeline}`, position);
  }
  const move = await moveToTimeline(db, fence, { timeline, start });
  if (move.result === "fenced") return null;
  if (move.result === "diverged") {
    throw rewound(
      stream,
      `its timeline ${timeline} left the log of ${stream.timeline} at ${formatLsn(start)}`,
      move.lsn,
    );
  }
  const message =
    `the source failed over to timeline ${timeline} at ${formatLsn(start)}, ` +
    `the stream goes on from ${formatLsn(move.position)}`;
  log.info(message);
  await addEvent(db, stream.group, { severity: "info", code: "FAILOVER", subject: stream.slotName, message });
  return move.position;
}

function rewound({ group, timeline }: Stream, what: string, durable: Lsn): PgFloError {
  return new PgFloError(
    "SOURCE_REWOUND",
    `source of group ${group}, ${what}, durable here is up to ${formatLsn(durable)}`,
    {
      facts: { timeline, durable: formatLsn(durable) },
    },
  );
}
