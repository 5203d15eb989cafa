// Names and numbers of the server's own things: reg* types, xid8, pg_lsn, tid, snapshots.
// Wire formats: the types' send functions in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt.
import type { ValueType } from "../parquet/schema.ts";
import { writeUnsigned } from "./digits.ts";
import { type Encode, type Family, malformed } from "./family.ts";
import { oidFamily } from "./fixed-width.ts";
import { fixedMeasure, makeTextFamily, type TextFamily, WireBuilder, writeAscii } from "./text-family.ts";

const TWO_32 = 0x100000000;
const COLON = 0x3a;
const COMMA = 0x2c;
const SLASH = 0x2f;
const utf8 = new TextEncoder();
const decoder = new TextDecoder();

/** Stands in front of the name of a reg* value that came as text. The server sends four bytes. */
const NAME_MARK = utf8.encode("\u0000name\u0000");

/**
 * regclass and its kin: INT64 of the OID, which is what the server stores. The names that stand for it in text depend on
 * the search path and on renames, so that a column of names would not be the same from copy and stream. Only a stream that
 * must be read as text (another column's type has no binary form) brings names: NULL, with the name as the exact text.
 */
export const regFamily: Family = {
  name: "reg",
  type: oidFamily.type,
  encode: encodeReg,
  parse: (text) => {
    if (text === "-") return oidFamily.parse("0"); // InvalidOid
    return /^\d+$/.test(text) ? oidFamily.parse(text) : new WireBuilder().bytes(NAME_MARK).text(text).finish();
  },
  format: (bytes, view, at, length) =>
    isName(bytes, at, length)
      ? decoder.decode(bytes.subarray(at + NAME_MARK.length, at + length))
      : view.getUint32(at) === 0
        ? "-"
        : oidFamily.format(bytes, view, at, length),
};

function isName(bytes: Uint8Array, at: number, length: number): boolean {
  return length >= NAME_MARK.length && NAME_MARK.every((byte, k) => bytes[at + k] === byte);
}

// Names are rare: one name makes the whole run slow.
function encodeReg(...[leaf, cells, inexact]: Parameters<Encode>): void {
  const { bytes, view, positions, count } = cells;
  let named = false;
  for (let i = 0; i < count && !named; i++) named = positions[i]! >= 0 && view.getInt32(positions[i]!) !== 4;
  if (!named) {
    oidFamily.encode(leaf, cells, inexact);
    return;
  }
  const shown = positions.slice(0, count);
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0 || !isName(bytes, at + 4, view.getInt32(at))) continue;
    inexact.add(i, regFamily.format(bytes, view, at + 4, view.getInt32(at)));
    shown[i] = -1;
  }
  oidFamily.encode(leaf, { bytes, view, positions: shown, count }, inexact);
}

const xid8Type: ValueType = {
  physical: "FIXED_LEN_BYTE_ARRAY",
  lengthBytes: 9,
  logical: { kind: "decimal", precision: 20, scale: 0 },
};

const encodeXid8: Encode = (leaf, cells) => {
  const { view, positions, count } = cells;
  leaf.reserve(count * 9);
  leaf.reserveEntries(count);
  const { bytes: out, view: outView, definitions, present } = leaf;
  let { end, entryCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 8) throw malformed("xid8", at, `${view.getInt32(at)} bytes`);
    out[end] = 0;
    outView.setInt32(end + 1, view.getInt32(at + 4));
    outView.setInt32(end + 5, view.getInt32(at + 8));
    end += 9;
    definitions[entryCount++] = present;
  }
  leaf.valueCount += (end - leaf.end) / 9;
  leaf.end = end;
  leaf.entryCount = entryCount;
};

/** Unsigned 64 bits do not fit an INT64: DECIMAL(20,0). */
export const xid8Family: Family = {
  name: "xid8",
  type: xid8Type,
  encode: encodeXid8,
  parse: (text) => {
    if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n) throw malformed("xid8", 0, "its text is not of 64 bits");
    return new WireBuilder().int64(BigInt.asIntN(64, BigInt(text))).finish();
  },
  format: (_bytes, view, at) => String(view.getBigUint64(at)),
};

/** `X/Y` in hexadecimal, without zeros in front (as up to PostgreSQL 18). */
export const pgLsnFamily: TextFamily = makeTextFamily(
  "pg_lsn",
  {
    plain: true,
    measure: fixedMeasure("pg_lsn", 8, 17),
    write: (out, to, _bytes, view, at) => {
      const end = writeHex(out, to, view.getUint32(at));
      out[end] = SLASH;
      return writeHex(out, end + 1, view.getUint32(at + 4));
    },
  },
  (text) => {
    const match = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/.exec(text);
    if (!match) throw malformed("pg_lsn", 0, "its text is not an LSN");
    return new Uint8Array(Buffer.from(match[1]!.padStart(8, "0") + match[2]!.padStart(8, "0"), "hex"));
  },
);

function writeHex(out: Uint8Array, to: number, value: number): number {
  let end = to;
  for (let shift = 28; shift >= 0; shift -= 4) {
    const digit = (value >>> shift) & 15;
    if (digit !== 0 || end > to || shift === 0) out[end++] = digit < 10 ? 0x30 + digit : 0x37 + digit;
  }
  return end;
}

/** A row's place: `(block,offset)`. */
export const tidFamily: TextFamily = makeTextFamily(
  "tid",
  {
    plain: true,
    measure: fixedMeasure("tid", 6, 18),
    write: (out, to, _bytes, view, at) => {
      out[to] = 0x28;
      let end = writeUnsigned(out, to + 1, view.getUint32(at));
      out[end] = COMMA;
      end = writeUnsigned(out, end + 1, view.getUint16(at + 4));
      out[end] = 0x29;
      return end + 1;
    },
  },
  (text) => {
    const match = /^\((\d{1,10}),(\d{1,5})\)$/.exec(text);
    const [block, offset] = [Number(match?.[1]), Number(match?.[2])];
    if (!(block < TWO_32 && offset <= 0xffff)) throw malformed("tid", 0, "its text is not (block,offset)");
    return new WireBuilder().int32(block).uint16(offset).finish();
  },
);

/** pg_snapshot, txid_snapshot: int32 count, uint64 xmin, xmax, then the ids in progress: `xmin:xmax:id,id`. */
export const snapshotFamily: TextFamily = makeTextFamily(
  "pg_snapshot",
  {
    measure: (_bytes, view, at, length) => {
      const count = length >= 20 ? view.getInt32(at) : -1;
      if (count < 0 || length !== 20 + 8 * count)
        throw malformed("pg_snapshot", at - 4, `${count} ids in ${length} bytes`);
      return 21 * (count + 2);
    },
    write: (out, to, _bytes, view, at, length) => {
      let end = writeUint64(out, to, view, at + 4);
      out[end] = COLON;
      end = writeUint64(out, end + 1, view, at + 12);
      out[end++] = COLON;
      for (let id = at + 20; id < at + length; id += 8) {
        if (id > at + 20) out[end++] = COMMA;
        end = writeUint64(out, end, view, id);
      }
      return end;
    },
  },
  (text) => {
    const match = /^(\d{1,20}):(\d{1,20}):((?:\d{1,20}(?:,\d{1,20})*)?)$/.exec(text);
    if (!match) throw malformed("pg_snapshot", 0, "its text is not a snapshot");
    const ids = match[3] === "" ? [] : match[3]!.split(",");
    const wire = new WireBuilder().int32(ids.length);
    for (const id of [match[1]!, match[2]!, ...ids]) wire.bytes(xid8Family.parse(id));
    return wire.finish();
  },
);

function writeUint64(out: Uint8Array, to: number, view: DataView, at: number): number {
  const high = view.getUint32(at);
  if (high < 0x200000) return writeUnsigned(out, to, high * TWO_32 + view.getUint32(at + 4));
  return writeAscii(out, to, String(view.getBigUint64(at)));
}

/** By OID (pg_type.dat). */
export const identifierFamilies: readonly (readonly [number, Family])[] = [
  [27, tidFamily],
  [24, regFamily], // regproc
  [2202, regFamily], // regprocedure
  [2203, regFamily], // regoper
  [2204, regFamily], // regoperator
  [2205, regFamily], // regclass
  [2206, regFamily], // regtype
  [3734, regFamily], // regconfig
  [3769, regFamily], // regdictionary
  [4089, regFamily], // regnamespace
  [4096, regFamily], // regrole
  [4191, regFamily], // regcollation
  [8326, regFamily], // regdatabase (PostgreSQL 19)
  [5069, xid8Family],
  [3220, pgLsnFamily],
  [2970, snapshotFamily], // txid_snapshot
  [5038, snapshotFamily], // pg_snapshot
];
