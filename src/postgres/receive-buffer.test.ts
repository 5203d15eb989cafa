import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ReceiveBuffer } from "./receive-buffer.ts";

test("bytes come out as they went in, whatever the reads, the messages and the pauses", () => {
  const step = fc.record({
    read: fc.integer({ min: 0, max: 200_000 }),
    use: fc.double({ min: 0, max: 1, noNaN: true }),
    wanted: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 6_000_000 })),
    keep: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const buffer = new ReceiveBuffer(128 * 1024);
      let written = 0;
      let used = 0;
      let kept: { bytes: Uint8Array; start: number; copy: Uint8Array } | undefined;
      for (const { read, use, wanted, keep } of steps) {
        const space = buffer.space();
        assert.ok(space.length >= 64 * 1024, "room for a read");
        const count = Math.min(read, space.length);
        for (let i = 0; i < count; i++) space[i] = (written + i) % 251;
        written += count;
        buffer.end += count;
        if (kept) assert.deepEqual(kept.bytes.subarray(kept.start, kept.start + kept.copy.length), kept.copy);
        const take = Math.floor((buffer.end - buffer.start) * use);
        for (let i = 0; i < take; i++) assert.equal(buffer.bytes[buffer.start + i], (used + i) % 251);
        kept = keep
          ? { bytes: buffer.bytes, start: buffer.start, copy: buffer.bytes.slice(buffer.start, buffer.start + take) }
          : undefined;
        used += take;
        buffer.start += take;
        buffer.wantedBytes = wanted;
        buffer.makeRoom(keep);
        if (wanted > 0) assert.ok(buffer.bytes.length - buffer.start >= wanted, "room for the whole message");
        assert.equal(buffer.view.buffer, buffer.bytes.buffer);
      }
    }),
    { numRuns: 60 },
  );
});

test("a buffer that grew for one big message is given back", () => {
  const buffer = new ReceiveBuffer(1024);
  buffer.wantedBytes = 50_000_000;
  buffer.makeRoom(false);
  assert.ok(buffer.bytes.length >= 50_000_000);
  buffer.wantedBytes = 0;
  buffer.makeRoom(false);
  assert.ok(buffer.bytes.length < 1_000_000);
});
