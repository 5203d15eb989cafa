// What the pgoutput parser tells: one call per message, with positions into the bytes it was given.
// Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
import type { Lsn } from "../base/lsn.ts";
import type { Relation, RelationType } from "./relation.ts";

/** Which old tuple a change carries: none, the identity's columns, or all. */
export type OldKind = typeof OLD_NONE | typeof OLD_KEY | typeof OLD_FULL;
export const OLD_NONE = 0;
export const OLD_KEY = 0x4b; // K: columns outside of the identity are null
export const OLD_FULL = 0x4f; // O: REPLICA IDENTITY FULL

/**
 * Positions count in the bytes that `parse` was given; tuples were checked by `skipTuple` and end exactly at their end.
 * Times are microseconds since 2000-01-01 UTC. Within a stream block `parser.xid` is the change's own transaction.
 */
export interface PgoutputHandler {
  begin(finalLsn: Lsn, commitTimeUs: bigint, xid: number): void;
  commit(commitLsn: Lsn, endLsn: Lsn, commitTimeUs: bigint): void;
  origin(commitLsn: Lsn, name: string): void;
  relation(relation: Relation): void;
  type(type: RelationType): void;
  insert(relationOid: number, newStart: number, newEnd: number): void;
  /** Without an old tuple `oldKind` is OLD_NONE and the old positions are 0. */
  update(
    relationOid: number,
    oldKind: OldKind,
    oldStart: number,
    oldEnd: number,
    newStart: number,
    newEnd: number,
  ): void;
  delete(relationOid: number, oldKind: OldKind, oldStart: number, oldEnd: number): void;
  truncate(relationOids: readonly number[], flags: number): void;
  /** `pg_logical_emit_message`. One that is not transactional comes at once, outside of Begin and Commit. */
  message(transactional: boolean, position: Lsn, prefix: string, contentStart: number, contentEnd: number): void;
  /** A block of a transaction that still runs begins; `first`: its first block. */
  streamStart(xid: number, first: boolean): void;
  streamStop(): void;
  streamCommit(xid: number, commitLsn: Lsn, endLsn: Lsn, commitTimeUs: bigint): void;
  /** `subXid` equals `xid` when all of it is aborted. LSN and time come with `streaming 'parallel'` only. */
  streamAbort(xid: number, subXid: number, abortLsn: Lsn | undefined, abortTimeUs: bigint | undefined): void;
}
