// Sizes and durations as people read them. For machines there are the plain numbers.

const sizeUnits = ["B", "kB", "MB", "GB", "TB", "PB"];

/** `0 B`, `999 B`, `1.5 kB`, `12 MB`: powers of 1000, two digits at least below 10. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < sizeUnits.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${sizeUnits[unit]}`;
}

/** `+1.5 MB/s`, `-12 kB/s`, `0 B/s`. */
export function formatRate(bytesPerSecond: number): string {
  const sign = Math.abs(bytesPerSecond) < 0.5 ? "" : bytesPerSecond > 0 ? "+" : "-";
  return `${sign}${formatSize(Math.abs(bytesPerSecond))}/s`;
}

/** `250 ms`, `1.5 s`, `12 s`, `3 min`, `5 h`, `2 d`. */
export function formatDuration(ms: number): string {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 119.5) return `${Math.round(seconds)} s`;
  const minutes = seconds / 60;
  if (minutes < 119.5) return `${Math.round(minutes)} min`;
  const hours = minutes / 60;
  return hours < 47.5 ? `${Math.round(hours)} h` : `${Math.round(hours / 24)} d`;
}
