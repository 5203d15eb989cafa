// Reads the fields of one message in order, and refuses to read past its end: PROTOCOL_VIOLATION with the offset.
// Source: https://www.postgresql.org/docs/current/protocol-message-types.html
import { type Lsn, lsn } from "../base/lsn.ts";
import { decodeText, violation } from "./wire.ts";

export class FieldReader {
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(new ArrayBuffer(0));
  position = 0;
  end = 0;

  open(bytes: Uint8Array, view: DataView, position: number, end: number): void {
    this.bytes = bytes;
    this.view = view;
    this.position = position;
    this.end = end;
  }

  need(byteCount: number): void {
    if (this.end - this.position < byteCount) throw violation("a pgoutput message is too short", this.position);
  }

  /** A message with more than we know is one that we do not understand. */
  finish(): void {
    if (this.position !== this.end) throw violation("a pgoutput message is too long", this.position);
  }

  uint8(): number {
    this.need(1);
    return this.bytes[this.position++]!;
  }

  uint16(): number {
    this.need(2);
    this.position += 2;
    return this.view.getUint16(this.position - 2);
  }

  uint32(): number {
    this.need(4);
    this.position += 4;
    return this.view.getUint32(this.position - 4);
  }

  int64(): bigint {
    this.need(8);
    this.position += 8;
    return this.view.getBigInt64(this.position - 8);
  }

  lsn(): Lsn {
    return lsn(BigInt.asUintN(64, this.int64()));
  }

  /** String: bytes up to a zero byte. */
  string(): string {
    const start = this.position;
    const terminator = this.bytes.indexOf(0, start);
    if (terminator < 0 || terminator >= this.end) throw violation("a name has no end", start);
    this.position = terminator + 1;
    return decodeText(this.bytes, start, terminator);
  }
}
