// "Did you mean": the allowed key that a mistyped one most likely stands for.

/** The nearest allowed key, or undefined when none is near (more than a third of the letters differ). */
export function nearestKey(typed: string, allowed: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const key of allowed) {
    const distance = editDistance(plain(typed), plain(key));
    if (distance < bestDistance && distance <= Math.max(1, Math.floor(key.length / 3))) {
      best = key;
      bestDistance = distance;
    }
  }
  return best;
}

function plain(key: string): string {
  return key.slice(0, 64).toLowerCase().replaceAll(/[-_ ]/g, "");
}

/** Levenshtein's distance, with one row of its table. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
