// Where the changes of a key lie, for keys that a row moved into with values that only its old place has.
// Keys are told apart by 96 bits of hash: with a hundred million of them a wrong one is less likely than a broken disk.
import { PgFloError } from "../base/errors.ts";
import type { KeyHash } from "./key-hash.ts";

const FIRST_SLOTS = 64;
const WORDS = 4; // three of the hash, then the route

/** How a key was before a change, so that the change of an aborted subtransaction can be undone. */
interface Undo {
  readonly xid: number;
  readonly hash: readonly [number, number, number];
  readonly before: number | undefined;
}

export class MovedKeys {
  /** Open addressing, at most half full. */
  #slots = new Int32Array(0);
  #used = new Uint8Array(0);
  #count = 0;
  readonly #undo: Undo[] = [];
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get size(): number {
    return this.#count;
  }

  /** The route of the key, or undefined when its own counts. */
  get(key: KeyHash): number | undefined {
    if (this.#count === 0) return undefined;
    const slot = this.#find(key.a, key.b, key.c);
    return this.#used[slot] ? this.#slots[slot * WORDS + 3]! : undefined;
  }

  /** `xid`: of the subtransaction that moved it; null where none can be undone. */
  set({ a, b, c }: KeyHash, route: number, xid: number | null): void {
    if (this.#count * 2 >= this.#used.length) this.#grow();
    const slot = this.#find(a, b, c);
    if (xid !== null) {
      this.#undo.push({ xid, hash: [a, b, c], before: this.#used[slot] ? this.#slots[slot * WORDS + 3] : undefined });
    }
    if (!this.#used[slot]) this.#count++;
    this.#used[slot] = 1;
    this.#slots.set([a, b, c, route], slot * WORDS);
  }

  /**
   * Takes back what aborted subtransactions set. They end in the reverse order of their beginnings, so what they set is
   * the newest of all; children are told as aborted before their parents, whose entries may lie around theirs.
   */
  undo(aborted: ReadonlySet<number>): void {
    for (let last = this.#undo.at(-1); last && aborted.has(last.xid); last = this.#undo.at(-1)) {
      this.#undo.pop();
      const slot = this.#find(...last.hash);
      // An entry is never taken out: its own route says the same as none.
      this.#slots[slot * WORDS + 3] = last.before ?? last.hash[0];
    }
  }

  #find(a: number, b: number, c: number): number {
    const mask = this.#used.length - 1;
    const slots = this.#slots;
    let slot = b & mask;
    while (this.#used[slot]) {
      const at = slot * WORDS;
      if (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c) break;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #grow(): void {
    const size = Math.max(FIRST_SLOTS, this.#used.length * 2);
    if (size * (WORDS * 4 + 1) > this.#maxBytes) {
      throw new PgFloError(
        "MEMORY_EXCEEDED",
        `transaction, keys changed in rows with TOASTed values that were not, more than ${this.#count}`,
      );
    }
    const [slots, used] = [this.#slots, this.#used];
    this.#slots = new Int32Array(size * WORDS);
    this.#used = new Uint8Array(size);
    for (let slot = 0; slot < used.length; slot++) {
      if (!used[slot]) continue;
      const at = slot * WORDS;
      const target = this.#find(slots[at]!, slots[at + 1]!, slots[at + 2]!);
      this.#used[target] = 1;
      this.#slots.set(slots.subarray(at, at + WORDS), target * WORDS);
    }
  }
}
