// A limit on how much happens at once. Whoever comes when it is reached waits in line.

export class Lanes {
  #free: number;
  readonly #waiting: { readonly width: number; readonly enter: () => void }[] = [];

  constructor(width: number) {
    this.#free = width;
  }

  /** Runs the work when there is room for its width. */
  async run<Result>(width: number, work: () => Promise<Result>): Promise<Result> {
    const release = await this.take(width);
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** Waits for room; the caller gives it back, once. A width above the whole never gets in. */
  async take(width: number): Promise<() => void> {
    if (this.#waiting.length === 0 && this.#free >= width) this.#free -= width;
    else await new Promise<void>((enter) => this.#waiting.push({ width, enter }));
    return () => {
      this.#free += width;
      for (let first = this.#waiting[0]; first && first.width <= this.#free; first = this.#waiting[0]) {
        this.#free -= first.width;
        this.#waiting.shift();
        first.enter();
      }
    };
  }
}

/** Does the work for every item, `count` at a time. The first failure ends it, when what is under way is done. */
export async function inParallel<Item>(
  items: Iterable<Item>,
  count: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const left = items[Symbol.iterator]();
  let failed = false;
  const lane = async (): Promise<void> => {
    for (let next = left.next(); !next.done && !failed; next = left.next()) await work(next.value);
  };
  const lanes = Array.from({ length: count }, () =>
    lane().catch((error: unknown) => {
      failed = true;
      throw error;
    }),
  );
  for (const outcome of await Promise.allSettled(lanes)) if (outcome.status === "rejected") throw outcome.reason;
}
