import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDuration, formatRate, formatSize } from "./quantity-text.ts";

test("sizes and durations have two digits at least, and the unit that fits", () => {
  const sizes = [0, 999, 1000, 9949, 9950, 999_499, 999_500, 128e6, 1.5e12].map(formatSize);
  assert.deepEqual(sizes, ["0 B", "999 B", "1.0 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "128 MB", "1.5 TB"]);
  assert.deepEqual([-12_300, -0.2, 0.2, 1.5e6].map(formatRate), ["-12 kB/s", "0 B/s", "0 B/s", "+1.5 MB/s"]);
  const durations = [0, 250, 1500, 12_000, 119_000, 180_000, 3 * 3_600_000, 72 * 3_600_000].map(formatDuration);
  assert.deepEqual(durations, ["0 ms", "250 ms", "1.5 s", "12 s", "119 s", "3 min", "3 h", "3 d"]);
});
