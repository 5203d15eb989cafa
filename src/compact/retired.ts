// Removes files that left the manifest long enough ago.
import { failpoint } from "../base/failpoints.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { forgetRetiredFiles, readExpiredFiles } from "../metadata/retired-files.ts";
import { inParallel } from "../storage/lanes.ts";
import type { Storage } from "../storage/storage.ts";

export interface RetiredSearch {
  readonly db: Queryable;
  readonly storage: Storage;
  readonly group: string;
  readonly graceMs: number;
}

const FILES_AT_ONCE = 1000;
const PARALLEL = 8;

/** Gives how many there were. Any number of processes may do it at once. */
export async function removeRetired({ db, storage, group, graceMs }: RetiredSearch): Promise<number> {
  for (let removed = 0; ; ) {
    const files = await readExpiredFiles(db, group, graceMs, FILES_AT_ONCE);
    if (files.length === 0) return removed;
    await inParallel(files, PARALLEL, ({ path }) => storage.remove(path));
    failpoint("compact.retired-removed");
    await forgetRetiredFiles(
      db,
      group,
      files.map(({ path }) => path),
    );
    removed += files.length;
  }
}
