// How many values of a file, a range or a batch are inexact, by column.
import { PgFloError } from "../base/errors.ts";

const OLD_PREFIX = /^_old_/;

export class InexactCounts {
  readonly #counts = new Map<string, number>();

  /** By the columns' names at the source. */
  get byColumn(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }

  /** `counts`: as `ExactColumn` has them; those of an `_old_` twin are its column's. */
  add(counts: ReadonlyMap<string, number>): void {
    for (const [name, count] of counts) {
      const column = name.replace(OLD_PREFIX, "");
      this.#counts.set(column, (this.#counts.get(column) ?? 0) + count);
    }
  }

  /** For tables with `on_inexact: error`. Throws TABLE_FAILED when there are any; values are never told. */
  refuse(subject: string): void {
    if (this.#counts.size === 0) return;
    const columns = [...this.#counts].map(([name, count]) => `${name} (${count})`).join(", ");
    const fix = "write these columns as string (types), correct the values, or set on_inexact: keep";
    throw new PgFloError("TABLE_FAILED", `${subject}, values do not fit their columns exactly, ${columns}`, { fix });
  }
}
