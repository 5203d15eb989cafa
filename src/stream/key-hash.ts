// 96 bits of an identity: the first 32 tell where its changes are spilled, all of them tell it from others.
import type { Arena } from "./arena.ts";
import { columnValue, firstColumn, nextColumn } from "./tuple-reader.ts";

export interface KeyHash {
  /** The key's own route. */
  a: number;
  b: number;
  c: number;
}

/** Writes the hash of the tuple's identity columns (ascending), in relation `relation`, to `target`. */
export function hashIdentity(
  target: KeyHash,
  { bytes, view }: Arena,
  tuple: number,
  keyColumns: Int32Array,
  relation: number,
): void {
  let at = firstColumn(tuple);
  let column = 0;
  let a = Math.imul(relation + 1, 0x9e3779b1);
  let b = Math.imul(relation + 1, 0x85ebca6b);
  let c = Math.imul(relation + 1, 0xc2b2ae35);
  for (let k = 0; k < keyColumns.length; k++) {
    for (; column < keyColumns[k]!; column++) at = nextColumn(view, at);
    let from = columnValue(view, at);
    const end = nextColumn(view, from);
    while (from < end) {
      let word = 0;
      if (from + 4 <= end) {
        word = view.getInt32(from, true);
        from += 4;
      } else word = bytes[from++]!;
      a = mix(a ^ word, 0xcc9e2d51);
      b = mix(b + word, 0x1b873593);
      c = mix(c ^ Math.imul(word, 0x27d4eb2f), 0x165667b1);
    }
  }
  target.a = finish(a ^ b);
  target.b = finish(b + c);
  target.c = finish(c ^ (a << 7));
}

function mix(hash: number, factor: number): number {
  const mixed = Math.imul(hash, factor);
  return (mixed ^ (mixed >>> 15)) | 0;
}

/** https://github.com/aappleby/smhasher/wiki/MurmurHash3, fmix32. */
function finish(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) | 0;
}
