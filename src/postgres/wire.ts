// Message framing of the frontend/backend protocol, version 3: where messages begin and end, the few that we send,
// and the error fields. Pure functions over bytes: it knows no socket and keeps no state.
// Source: https://www.postgresql.org/docs/current/protocol-message-formats.html
import { DatabaseError } from "pg";
import { PgFloError } from "../base/errors.ts";
import type { Lsn } from "../base/lsn.ts";

/** Type bytes of the backend messages that reach us after authentication. */
export const backend = {
  notification: 0x41, // A
  commandComplete: 0x43, // C
  dataRow: 0x44, // D
  error: 0x45, // E
  copyInResponse: 0x47, // G
  copyOutResponse: 0x48, // H
  emptyQuery: 0x49, // I
  notice: 0x4e, // N
  parameterStatus: 0x53, // S
  rowDescription: 0x54, // T
  copyBothResponse: 0x57, // W
  readyForQuery: 0x5a, // Z
  copyDone: 0x63, // c
  copyData: 0x64, // d
} as const;

/** Type byte and int32 length. */
export const MESSAGE_HEADER_BYTES = 5;
/** Postgres builds a message in memory of at most 1 GiB (MaxAllocSize); a longer length is garbage, not a message. */
export const MESSAGE_MAX_BYTES = 0x40000000;

/** Where whole messages go: `start` and `end` enclose the body, without type and length. */
export interface MessageSink {
  message(type: number, start: number, end: number): void;
}

/**
 * Hands every whole message between `start` and `end` to the sink, and returns where the first partial one begins
 * (`end` if there is none). Throws PROTOCOL_VIOLATION for an impossible length.
 */
export function readMessages(bytes: Uint8Array, view: DataView, start: number, end: number, sink: MessageSink): number {
  let position = start;
  while (end - position >= MESSAGE_HEADER_BYTES) {
    const next = position + 1 + bodyLength(view, position);
    if (next > end) break;
    sink.message(bytes[position]!, position + MESSAGE_HEADER_BYTES, next);
    position = next;
  }
  return position;
}

/** Bytes that the partial message at `position` will have in all; 0 while its header is not there. */
export function partialMessageBytes(view: DataView, position: number, end: number): number {
  return end - position < MESSAGE_HEADER_BYTES ? 0 : 1 + bodyLength(view, position);
}

function bodyLength(view: DataView, position: number): number {
  const length = view.getInt32(position + 1);
  if (length < 4 || length > MESSAGE_MAX_BYTES) {
    throw violation(`message of type ${view.getUint8(position)} has the impossible length ${length}`, position);
  }
  return length;
}

/** A PROTOCOL_VIOLATION with the offset of the malformed bytes. */
export function violation(what: string, offset: number): PgFloError {
  return new PgFloError("PROTOCOL_VIOLATION", `server message, ${what}, at offset ${offset}`, { facts: { offset } });
}

const fieldNames: Readonly<Record<string, string>> = {
  S: "severity",
  C: "code",
  D: "detail",
  H: "hint",
  P: "position",
  p: "internalPosition",
  q: "internalQuery",
  W: "where",
  s: "schema",
  t: "table",
  c: "column",
  d: "dataType",
  n: "constraint",
  F: "file",
  L: "line",
  R: "routine",
};

/**
 * Reads the fields of an ErrorResponse or NoticeResponse body into pg's DatabaseError (`code` is the SQLSTATE).
 * Source: https://www.postgresql.org/docs/current/protocol-error-fields.html
 */
export function parseErrorFields(bytes: Uint8Array, start: number, end: number): DatabaseError {
  const fields: Record<string, string> = {};
  let message = "";
  let position = start;
  while (position < end && bytes[position] !== 0) {
    const type = String.fromCharCode(bytes[position]!);
    const terminator = bytes.indexOf(0, position + 1);
    if (terminator < 0 || terminator >= end) throw violation("an error field has no end", position);
    const value = decodeText(bytes, position + 1, terminator);
    if (type === "M") message = value;
    const name = fieldNames[type];
    if (name !== undefined) fields[name] = value;
    position = terminator + 1;
  }
  if (position >= end) throw violation("an error has no terminator", position);
  return Object.assign(new DatabaseError(message, end - start, "error"), fields);
}

/** Reads the values of a DataRow body in text format; null for NULL. */
export function parseDataRow(bytes: Uint8Array, view: DataView, start: number, end: number): (string | null)[] {
  if (end - start < 2) throw violation("a DataRow is too short", start);
  const count = view.getUint16(start);
  const values: (string | null)[] = [];
  let position = start + 2;
  for (let i = 0; i < count; i++) {
    if (end - position < 4) throw violation("a DataRow is too short", position);
    const length = view.getInt32(position);
    position += 4;
    if (length === -1) {
      values.push(null);
      continue;
    }
    if (length < 0 || length > end - position) throw violation("a DataRow's value is longer than the row", position);
    values.push(decodeText(bytes, position, position + length));
    position += length;
  }
  if (position !== end) throw violation("a DataRow has bytes after its last value", position);
  return values;
}

/** UTF-8 text between two positions; invalid bytes become U+FFFD. */
export function decodeText(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8");
}

/** Query: a simple query. */
export function queryMessage(sql: string): Buffer {
  const sqlBytes = Buffer.byteLength(sql, "utf8");
  const message = Buffer.allocUnsafe(sqlBytes + 6);
  message[0] = 0x51; // Q
  message.writeInt32BE(sqlBytes + 5, 1);
  message.write(sql, 5, "utf8");
  message[sqlBytes + 5] = 0;
  return message;
}

/** CopyDone: we send nothing more in this COPY. */
export function copyDoneMessage(): Buffer {
  return Buffer.from([0x63, 0, 0, 0, 4]);
}

/** Terminate: a polite end of the session. */
export function terminateMessage(): Buffer {
  return Buffer.from([0x58, 0, 0, 0, 4]);
}

export interface StandbyStatus {
  readonly written: Lsn;
  readonly flushed: Lsn;
  readonly timeMs: number; // Unix epoch
  /** True asks the server to answer at once. */
  readonly replyRequested: boolean;
}

const POSTGRES_EPOCH_MS = 946_684_800_000;

/**
 * CopyData with a standby status update. What is applied is what is flushed: nothing else would be safe to lose.
 * Source: https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-STANDBY-STATUS-UPDATE
 */
export function standbyStatusMessage(status: StandbyStatus): Buffer {
  const message = Buffer.allocUnsafe(39);
  message[0] = 0x64; // d
  message.writeInt32BE(38, 1);
  message[5] = 0x72; // r
  message.writeBigUInt64BE(status.written, 6);
  message.writeBigUInt64BE(status.flushed, 14);
  message.writeBigUInt64BE(status.flushed, 22); // applied
  message.writeBigInt64BE(BigInt(Math.round(status.timeMs) - POSTGRES_EPOCH_MS) * 1000n, 30);
  message[38] = status.replyRequested ? 1 : 0;
  return message;
}
