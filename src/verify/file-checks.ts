// Whether files are as they were written: size and checksum against the manifest's.
import { checksumText, crc32 } from "../base/crc32.ts";
import { PgFloError } from "../base/errors.ts";
import type { ManifestFile } from "../metadata/files.ts";
import { inParallel } from "../storage/lanes.ts";
import type { Storage } from "../storage/storage.ts";

export interface DamagedFile {
  readonly file: ManifestFile;
  readonly what: string;
}

const PARALLEL = 4;

/** The files that are not, or not there. */
export async function findDamagedFiles(storage: Storage, files: readonly ManifestFile[]): Promise<DamagedFile[]> {
  const damaged: DamagedFile[] = [];
  await inParallel(files, PARALLEL, async (file) => {
    const what = await damage(storage, file);
    if (what !== null) damaged.push({ file, what });
  });
  return damaged.sort((a, b) => (a.file.path < b.file.path ? -1 : 1));
}

async function damage(storage: Storage, file: ManifestFile): Promise<string | null> {
  let sum = 0;
  let sizeBytes = 0;
  try {
    for await (const bytes of storage.read(file.path)) {
      sum = crc32(bytes, sum);
      sizeBytes += bytes.byteLength;
    }
  } catch (error) {
    if (error instanceof PgFloError && error.facts.missing === true) return "it is not there";
    throw error;
  }
  if (sizeBytes !== file.sizeBytes) return `it has ${sizeBytes} bytes instead of ${file.sizeBytes}`;
  const checksum = checksumText(sum);
  return checksum === file.checksum ? null : `its checksum is ${checksum} instead of ${file.checksum}`;
}
