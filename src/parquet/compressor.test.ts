import assert from "node:assert/strict";
import { test } from "node:test";
import { zstdDecompressSync } from "node:zlib";
import { seededRandom } from "../../test/support/replication-run.ts";
import { Compressor, type Frame } from "./compressor.ts";

const bytesOf = ({ pieces }: Frame) => Buffer.concat(pieces);

/** Half of it compresses. */
function page(size: number, random: () => number): Uint8Array {
  const words = Int32Array.from({ length: Math.ceil(size / 8) * 2 }, (_, index) =>
    index % 2 ? 65 : random() * 2 ** 31,
  );
  return new Uint8Array(words.buffer, 0, Math.ceil(size));
}

test("a frame stays as it is until it is released, whatever is compressed and released meanwhile", async () => {
  const { next } = seededRandom();
  const compressor = new Compressor("zstd");
  const held: { readonly input: Uint8Array; readonly frame: Frame }[] = [];
  for (let round = 0; round < 20; round++) {
    const inputs = Array.from({ length: 3 }, () =>
      page(next() < 0.05 ? 20_000_000 : next() < 0.1 ? 5_000_000 : 1 + next() * 400_000, next),
    );
    const frames = await Promise.all(inputs.map((input) => compressor.compress(input)));
    for (const [index, frame] of frames.entries()) held.push({ input: inputs[index]!, frame });
    while (held.length > 0 && next() < 0.72) {
      const [{ input, frame }] = held.splice(Math.floor(next() * held.length), 1) as [(typeof held)[number]];
      assert.ok(zstdDecompressSync(bytesOf(frame)).equals(input));
      compressor.release(frame);
    }
  }
  for (const { input, frame } of held) assert.ok(zstdDecompressSync(bytesOf(frame)).equals(input));
});

test("what released frames lay in is used again, and a small frame takes no more than its bytes", async () => {
  const { next } = seededRandom();
  const compressor = new Compressor("zstd");
  const input = page(1_000_000, next);
  const buffers = new Set<ArrayBufferLike>();
  for (let count = 0; count < 100; count++) {
    const frame = await compressor.compress(input);
    for (const { buffer } of frame.pieces) buffers.add(buffer);
    compressor.release(frame);
  }
  assert.equal(buffers.size, 1);
  const small = await compressor.compress(new Uint8Array(4_000_000));
  assert.deepEqual(
    small.pieces.map(({ buffer }) => buffer.byteLength),
    [small.sizeBytes],
  );
  compressor.release(small);
});

test("zlib writes into one buffer all the time", async () => {
  const { next } = seededRandom();
  const compressor = new Compressor("zstd");
  const input = page(3_000_000, next);
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  for (let count = 0; count < 60; count++) {
    compressor.release(await compressor.compress(input));
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  assert.ok(most < 20_000_000, `${most} bytes`);
});
