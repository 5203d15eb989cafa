// Log sequence numbers: byte positions in the write-ahead log, 64 bit unsigned.
// Source: https://www.postgresql.org/docs/current/datatype-pg-lsn.html

declare const lsnBrand: unique symbol;

/** A position in the write-ahead log. A branded bigint, so that no other number is taken for one. */
export type Lsn = bigint & { readonly [lsnBrand]: true };

export const LSN_ZERO = 0n as Lsn;

/** Marks a bigint as an LSN. Throws a RangeError for a value that is not an unsigned 64-bit integer. */
export function lsn(value: bigint): Lsn {
  if (value < 0n || value > 0xffffffffffffffffn) throw new RangeError(`not an LSN: ${value}`);
  return value as Lsn;
}

/** Reads Postgres's notation `X/Y` (two hexadecimal halves). Throws a SyntaxError for anything else. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!match) throw new SyntaxError(`not an LSN: ${JSON.stringify(text)}`);
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** Writes Postgres's notation `X/Y`. */
export function formatLsn(value: Lsn): string {
  return `${(value >> 32n).toString(16).toUpperCase()}/${(value & 0xffffffffn).toString(16).toUpperCase()}`;
}
