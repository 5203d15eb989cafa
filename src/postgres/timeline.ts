// A timeline's history: each timeline that it descends from, with the point at which that one was left.
// Source: https://www.postgresql.org/docs/current/protocol-replication.html (TIMELINE_HISTORY), and
// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
import { type Lsn, parseLsn } from "../base/lsn.ts";

/** Where `timeline` was left, by the history file's text; null when it is not among the ancestors. */
export function timelineEnd(history: string, timeline: number): Lsn | null {
  for (const line of history.split("\n")) {
    const match = /^\s*(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/i.exec(line); // a comment begins with #
    if (match && Number(match[1]) === timeline) return parseLsn(match[2]!);
  }
  return null;
}
