// The manifest's files out of a bucket, in a folder, for what reads folders.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Client } from "pg";
import type { S3StorageConfig } from "../../src/base/storage-config.ts";
import { openStorage } from "../../src/storage/open.ts";
import { makeTestFolder, type TestFolder } from "./folder.ts";
import type { TestS3Server } from "./s3-server.ts";

/** Copies what the manifest lists and nothing else. */
export async function fetchBucket(
  server: TestS3Server,
  prefix: string,
  metadata: Client,
  group = "app",
): Promise<TestFolder> {
  const folder = await makeTestFolder();
  await fetchFiles(server.config(prefix), folder.path, metadata, group);
  return folder;
}

/** The same into a folder that is there. */
export async function fetchFiles(
  bucket: S3StorageConfig,
  folder: string,
  metadata: Client,
  group: string,
): Promise<void> {
  const storage = openStorage(bucket);
  const { rows } = await metadata.query<{ path: string }>("select path from _pg_flo.files where group_name = $1", [
    group,
  ]);
  for (const { path } of rows) {
    const target = join(folder, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, storage.read(path));
  }
}
