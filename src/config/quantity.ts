// Durations and sizes as people write them, in base units.

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1000,
  mb: 1000 ** 2,
  gb: 1000 ** 3,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
};

/** Milliseconds of `250ms`, `10s`, `1.5m`, `1h`, `30d`; undefined for anything else. */
export function parseDurationMs(text: string): number | undefined {
  return parseQuantity(text, MILLISECONDS);
}

/** Bytes of `512kB`, `128MB` (a million bytes each) or `1GiB` (2^30 bytes); undefined for anything else. */
export function parseSizeBytes(text: string): number | undefined {
  return parseQuantity(text, BYTES);
}

function parseQuantity(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d{1,12}(?:\.\d{1,6})?) ?([a-z]{1,3})$/i.exec(text.trim());
  const unit = match && Object.hasOwn(units, match[2]!.toLowerCase()) ? units[match[2]!.toLowerCase()] : undefined;
  return unit === undefined ? undefined : Math.round(Number(match![1]) * unit);
}
