// What happened, for people: shown by `status` and the dashboard. Never holds secrets or row values.
import { type Queryable, rows } from "./queryable.ts";

export type EventSeverity = "info" | "warning" | "error";

export interface GroupEvent {
  readonly at: Date;
  readonly severity: EventSeverity;
  /** An error code of base/errors.ts, or a word of its own in capitals. */
  readonly code: string;
  /** What it is about: a table, a stream, a worker. */
  readonly subject: string;
  readonly message: string;
}

/** Older events of a group are deleted, so that a table that fails again and again does not fill the database. */
export const eventsKept = 1000;

/** Tells an event. Its time is the metadata server's. */
export async function addEvent(db: Queryable, group: string, event: Omit<GroupEvent, "at">): Promise<void> {
  await rows(
    db,
    `with added as (
       insert into _pg_flo.events (group_name, severity, code, subject, message) values ($1, $2, $3, $4, $5))
     delete from _pg_flo.events where group_name = $1 and event_id <= (
       select event_id from _pg_flo.events where group_name = $1 order by event_id desc offset $6 limit 1)`,
    [group, event.severity, event.code, event.subject, event.message, eventsKept - 1],
  );
}

/** The newest events, newest first. */
export async function readEvents(db: Queryable, group: string, limit: number): Promise<GroupEvent[]> {
  return rows<GroupEvent>(
    db,
    `select at, severity, code, subject, message from _pg_flo.events where group_name = $1
     order by event_id desc limit $2`,
    [group, limit],
  );
}
