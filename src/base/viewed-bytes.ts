/**
 * Bytes over which `new DataView(bytes.buffer)` is made, zeroed, with room behind the last one: Maglev (Node.js 24) takes
 * a value that ends where its view ends for one out of bounds, and makes slow calls of all accesses at that place in the
 * code from then on.
 */
export function viewedBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length + WIDEST_VALUE_BYTES), 0, length);
}

const WIDEST_VALUE_BYTES = 8;
