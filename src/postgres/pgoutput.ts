// Parses the messages of the pgoutput plugin, protocol versions 1 to 4, into calls with positions: no objects per change.
// Refuses everything that it does not know with PROTOCOL_VIOLATION and the offset; prepared transactions (two_phase),
// which we never ask for, are among that. It keeps no relations and no transactions.
// Each field's source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
import { FieldReader } from "./field-reader.ts";
import { OLD_FULL, OLD_KEY, OLD_NONE, type PgoutputHandler } from "./pgoutput-handler.ts";
import type { Relation, RelationColumn } from "./relation.ts";
import { skipTuple } from "./tuple.ts";
import { violation } from "./wire.ts";

const type = {
  begin: 0x42, // B
  commit: 0x43, // C
  delete: 0x44, // D
  streamStop: 0x45, // E
  insert: 0x49, // I
  message: 0x4d, // M
  origin: 0x4f, // O
  relation: 0x52, // R
  streamStart: 0x53, // S
  truncate: 0x54, // T
  update: 0x55, // U
  type: 0x59, // Y
  streamAbort: 0x41, // A
  streamCommit: 0x63, // c
} as const;

/** Types of the messages that begin a block of a transaction that runs, and that abort it or a part of it. */
export const STREAM_START: number = type.streamStart;
export const STREAM_ABORT: number = type.streamAbort;

const NEW_TUPLE = 0x4e; // N
const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

export class PgoutputParser {
  readonly #handler: PgoutputHandler;
  readonly #in = new FieldReader();
  #inStream = false;
  #xid = 0;

  constructor(handler: PgoutputHandler) {
    this.#handler = handler;
  }

  /** Within a stream block: the (sub)transaction of the message that is being handed over. Else 0. */
  get xid(): number {
    return this.#xid;
  }

  /** Between streamStart and streamStop. */
  get inStream(): boolean {
    return this.#inStream;
  }

  /** Lets go of the bytes that were parsed last: they can be hundreds of megabytes. */
  release(): void {
    this.#in.open(NO_BYTES, NO_VIEW, 0, 0);
  }

  /** Forgets an open stream block: for a new connection. */
  reset(): void {
    this.#inStream = false;
    this.#xid = 0;
  }

  /** Parses the one message between `start` and `end`, and calls the handler once. Throws PROTOCOL_VIOLATION. */
  parse(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    if (start >= end) throw violation("an empty pgoutput message", start);
    this.#in.open(bytes, view, start + 1, end);
    switch (bytes[start]) {
      case type.insert:
        this.#insert();
        break;
      case type.update:
        this.#update();
        break;
      case type.delete:
        this.#delete();
        break;
      case type.begin:
        this.#begin();
        break;
      case type.commit:
        this.#commit();
        break;
      default:
        this.#parseRare(bytes[start]!, start);
        break;
    }
  }

  #parseRare(code: number, start: number): void {
    switch (code) {
      case type.relation:
        this.#relation();
        break;
      case type.type:
        this.#type();
        break;
      case type.truncate:
        this.#truncate();
        break;
      case type.message:
        this.#message();
        break;
      case type.origin:
        this.#origin();
        break;
      case type.streamStart:
        this.#streamStart();
        break;
      case type.streamStop:
        this.#streamStop();
        break;
      case type.streamCommit:
        this.#streamCommit();
        break;
      case type.streamAbort:
        this.#streamAbort();
        break;
      default:
        throw violation(`unknown pgoutput message type ${code}`, start);
    }
  }

  /** Byte1('I') [Int32 xid] Int32 oid Byte1('N') TupleData */
  #insert(): void {
    this.#streamedXid();
    const oid = this.#in.uint32();
    const newStart = this.#newTuple();
    this.#handler.insert(oid, newStart, this.#in.end);
  }

  /** Byte1('U') [Int32 xid] Int32 oid [Byte1('K' | 'O') TupleData] Byte1('N') TupleData */
  #update(): void {
    this.#streamedXid();
    const oid = this.#in.uint32();
    this.#in.need(1);
    const oldKind = this.#in.bytes[this.#in.position]!;
    if (oldKind !== OLD_KEY && oldKind !== OLD_FULL) {
      const newStart = this.#newTuple();
      this.#handler.update(oid, OLD_NONE, 0, 0, newStart, this.#in.end);
      return;
    }
    const oldStart = this.#in.position + 1;
    const oldEnd = skipTuple(this.#in.view, oldStart, this.#in.end);
    this.#in.position = oldEnd;
    const newStart = this.#newTuple();
    this.#handler.update(oid, oldKind, oldStart, oldEnd, newStart, this.#in.end);
  }

  /** Byte1('D') [Int32 xid] Int32 oid Byte1('K' | 'O') TupleData */
  #delete(): void {
    this.#streamedXid();
    const oid = this.#in.uint32();
    const oldKind = this.#in.uint8();
    if (oldKind !== OLD_KEY && oldKind !== OLD_FULL) {
      throw violation(`a delete has the unknown tuple ${oldKind}`, this.#in.position - 1);
    }
    const oldStart = this.#in.position;
    this.#in.position = skipTuple(this.#in.view, oldStart, this.#in.end);
    this.#in.finish();
    this.#handler.delete(oid, oldKind, oldStart, this.#in.end);
  }

  /** Byte1('B') Int64 final LSN, Int64 commit time, Int32 xid */
  #begin(): void {
    const finalLsn = this.#in.lsn();
    const commitTimeUs = this.#in.int64();
    const xid = this.#in.uint32();
    this.#in.finish();
    this.#handler.begin(finalLsn, commitTimeUs, xid);
  }

  /** Byte1('C') Int8 flags (unused), Int64 commit LSN, Int64 end LSN, Int64 commit time */
  #commit(): void {
    this.#in.uint8();
    const commitLsn = this.#in.lsn();
    const endLsn = this.#in.lsn();
    const commitTimeUs = this.#in.int64();
    this.#in.finish();
    this.#handler.commit(commitLsn, endLsn, commitTimeUs);
  }

  /** Byte1('R') [Int32 xid] Int32 oid, String schema, String name, Int8 identity, Int16 n, n × (Int8, String, Int32, Int32) */
  #relation(): void {
    this.#streamedXid();
    const oid = this.#in.uint32();
    const schema = this.#in.string();
    const name = this.#in.string();
    const replicaIdentity = String.fromCharCode(this.#in.uint8());
    if (!isReplicaIdentity(replicaIdentity)) throw violation("an unknown replica identity", this.#in.position - 1);
    const columnCount = this.#in.uint16();
    const columns: RelationColumn[] = [];
    for (let i = 0; i < columnCount; i++) {
      const flags = this.#in.uint8();
      const columnName = this.#in.string();
      const typeOid = this.#in.uint32();
      columns.push({ flags, name: columnName, typeOid, typmod: this.#in.uint32() | 0 });
    }
    this.#in.finish();
    this.#handler.relation({ oid, schema, name, replicaIdentity, columns });
  }

  /** Byte1('Y') [Int32 xid] Int32 oid, String schema, String name */
  #type(): void {
    this.#streamedXid();
    const relationType = { oid: this.#in.uint32(), schema: this.#in.string(), name: this.#in.string() };
    this.#in.finish();
    this.#handler.type(relationType);
  }

  /** Byte1('T') [Int32 xid] Int32 n, Int8 flags, n × Int32 oid */
  #truncate(): void {
    this.#streamedXid();
    const relationCount = this.#in.uint32();
    const flags = this.#in.uint8();
    this.#in.need(relationCount * 4);
    const oids: number[] = [];
    for (let i = 0; i < relationCount; i++) oids.push(this.#in.uint32());
    this.#in.finish();
    this.#handler.truncate(oids, flags);
  }

  /** Byte1('M') [Int32 xid] Int8 flags (1: transactional), Int64 LSN, String prefix, Int32 length, bytes */
  #message(): void {
    this.#streamedXid();
    const transactional = (this.#in.uint8() & 1) !== 0;
    const position = this.#in.lsn();
    const prefix = this.#in.string();
    const length = this.#in.uint32();
    const contentStart = this.#in.position;
    this.#in.need(length);
    this.#in.position += length;
    this.#in.finish();
    this.#handler.message(transactional, position, prefix, contentStart, this.#in.end);
  }

  /** Byte1('O') Int64 commit LSN at the origin, String name */
  #origin(): void {
    const commitLsn = this.#in.lsn();
    const name = this.#in.string();
    this.#in.finish();
    this.#handler.origin(commitLsn, name);
  }

  /** Byte1('S') Int32 xid, Int8 first */
  #streamStart(): void {
    if (this.#inStream) throw violation("a stream block inside of a stream block", this.#in.position - 1);
    const xid = this.#in.uint32();
    const first = this.#in.uint8() === 1;
    this.#in.finish();
    this.#inStream = true;
    this.#xid = xid;
    this.#handler.streamStart(xid, first);
  }

  /** Byte1('E') */
  #streamStop(): void {
    if (!this.#inStream) throw violation("the end of a stream block that did not begin", this.#in.position - 1);
    this.#in.finish();
    this.reset();
    this.#handler.streamStop();
  }

  /** Byte1('c') Int32 xid, Int8 flags (unused), Int64 commit LSN, Int64 end LSN, Int64 commit time */
  #streamCommit(): void {
    const xid = this.#in.uint32();
    this.#in.uint8();
    const commitLsn = this.#in.lsn();
    const endLsn = this.#in.lsn();
    const commitTimeUs = this.#in.int64();
    this.#in.finish();
    this.#handler.streamCommit(xid, commitLsn, endLsn, commitTimeUs);
  }

  /** Byte1('A') Int32 xid, Int32 subxid [Int64 LSN, Int64 time: only with streaming 'parallel'] */
  #streamAbort(): void {
    const xid = this.#in.uint32();
    const subXid = this.#in.uint32();
    const detailed = this.#in.position < this.#in.end;
    const abortLsn = detailed ? this.#in.lsn() : undefined;
    const abortTimeUs = detailed ? this.#in.int64() : undefined;
    this.#in.finish();
    this.#handler.streamAbort(xid, subXid, abortLsn, abortTimeUs);
  }

  #streamedXid(): void {
    if (this.#inStream) this.#xid = this.#in.uint32();
  }

  /** Checks Byte1('N') and the tuple behind it, which is the message's last part; returns where the tuple starts. */
  #newTuple(): number {
    const kind = this.#in.uint8();
    if (kind !== NEW_TUPLE) throw violation(`a change has the unknown tuple ${kind}`, this.#in.position - 1);
    const start = this.#in.position;
    this.#in.position = skipTuple(this.#in.view, start, this.#in.end);
    this.#in.finish();
    return start;
  }
}

function isReplicaIdentity(text: string): text is Relation["replicaIdentity"] {
  return text === "d" || text === "n" || text === "f" || text === "i";
}
