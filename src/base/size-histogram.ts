// How often sizes of each magnitude occurred: plain numbers, a few comparisons for each size that is noted.

export interface SizeHistogram {
  /** Ascending, each included. */
  readonly bounds: readonly number[];
  /** For each bound the sizes up to it and above the one before; one more for those above all. */
  readonly counts: number[];
  sum: number;
}

export function sizeHistogram(bounds: readonly number[]): SizeHistogram {
  return { bounds, counts: new Array<number>(bounds.length + 1).fill(0), sum: 0 };
}

export function noteSize(histogram: SizeHistogram, size: number): void {
  const { bounds, counts } = histogram;
  let index = 0;
  while (index < bounds.length && size > bounds[index]!) index++;
  counts[index]!++;
  histogram.sum += size;
}
