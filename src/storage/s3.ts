// Files as objects of a bucket. An object is there when its upload is complete, so a file is seen whole or not at all; what
// a crash leaves is an unfinished upload, which `listUnfinished` shows where the server can list them.
import { randomUUID } from "node:crypto";
import type { S3StorageConfig } from "../base/storage-config.ts";
import { Lanes } from "./lanes.ts";
import { refuseForeignPath } from "./paths.ts";
import { S3Bucket } from "./s3-bucket.ts";
import { isMissing, isUnsupported, s3Error } from "./s3-error.ts";
import { PART_BYTES, S3Sink } from "./s3-sink.ts";
import type { Storage, StoredEntry, UnfinishedFile } from "./storage.ts";

/** On their way at a time, of all files of a storage: eight parts, or many small files. */
const IN_FLIGHT_BYTES = 8 * PART_BYTES;
const PROBE_SIZE_BYTES = 4096;
const PROBE_TIMEOUT_MS = 60_000;
const PROBE_PREFIX = ".pg-flo-probe-";
/** Nobody probes for so long: an older one is of a process that was killed. */
const PROBE_LEFT_MS = 3_600_000;

/** A storage below `s3://bucket/prefix`. Throws only from its methods. */
export function openS3Storage(config: S3StorageConfig): Storage {
  const place = placeOf(config);
  const lanes = new Lanes(IN_FLIGHT_BYTES);
  const create = async (path: string): Promise<S3Sink> => {
    refuseForeignPath(path);
    return new S3Sink({ bucket: place.bucket, key: place.keyOf(path), path, url: place.urlOf(path), lanes });
  };
  return {
    url: place.url,
    create,
    read: (path) => read(place, path),
    list: (prefix) => list(place, prefix),
    listUnfinished: (prefix) => listUnfinished(place, prefix),
    remove: (path) => remove(place, path),
    removeUnfinished: (file) => removeUnfinished(place, file),
    probe: () => probe(place, create),
  };
}

/** Where a storage's files are. */
interface Place {
  readonly bucket: S3Bucket;
  readonly url: string;
  keyOf(path: string): string;
  urlOf(path: string): string;
  /** Undefined for a key that is not below the prefix. */
  pathOf(key: string): string | undefined;
}

function placeOf(config: S3StorageConfig): Place {
  const base = config.prefix === "" ? "" : `${config.prefix}/`;
  const root = `s3://${config.bucket}/${config.prefix}`.replace(/\/$/, "");
  return {
    bucket: new S3Bucket(config),
    // A bucket of the same name at another server is another storage.
    url: config.endpoint === undefined ? root : `${root}?endpoint=${config.endpoint}`,
    keyOf: (path) => base + path,
    urlOf: (path) => `${root}/${path}`,
    pathOf: (key) => (key.startsWith(base) ? key.slice(base.length) : undefined),
  };
}

async function* read({ bucket, keyOf, urlOf }: Place, path: string): AsyncGenerator<Uint8Array> {
  refuseForeignPath(path);
  try {
    yield* bucket.get(keyOf(path));
  } catch (error) {
    throw s3Error("read", urlOf(path), error);
  }
}

async function* list(place: Place, prefix: string): AsyncGenerator<StoredEntry> {
  try {
    for await (const { key, sizeBytes, modifiedAt } of place.bucket.list(keyPrefix(place, prefix))) {
      const path = place.pathOf(key);
      // Consoles make objects named like folders.
      if (path && !path.endsWith("/")) yield { path, sizeBytes, modifiedAt };
    }
  } catch (error) {
    throw s3Error("list", place.urlOf(prefix), error);
  }
}

async function* listUnfinished(place: Place, prefix: string): AsyncGenerator<UnfinishedFile> {
  try {
    for await (const { key, uploadId, startedAt } of place.bucket.listUploads(keyPrefix(place, prefix))) {
      const path = place.pathOf(key);
      if (path) yield { path, id: uploadId, modifiedAt: startedAt };
    }
  } catch (error) {
    if (!isUnsupported(error)) throw s3Error("list uploads of", place.urlOf(prefix), error);
  }
}

/** The slash at the end keeps `app2` out of `app`. */
function keyPrefix(place: Place, prefix: string): string {
  if (prefix === "") return place.keyOf("");
  refuseForeignPath(prefix);
  return place.keyOf(`${prefix}/`);
}

async function remove({ bucket, keyOf, urlOf }: Place, path: string): Promise<void> {
  refuseForeignPath(path);
  try {
    await bucket.remove(keyOf(path)); // S3 says the same whether it was there
  } catch (error) {
    if (!isMissing(error)) throw s3Error("remove", urlOf(path), error);
  }
}

async function removeUnfinished({ bucket, keyOf, urlOf }: Place, { path, id }: UnfinishedFile): Promise<void> {
  try {
    await bucket.abortUpload(keyOf(path), id);
  } catch (error) {
    if (!isMissing(error)) throw s3Error("drop the upload of", urlOf(path), error);
  }
}

/** Every kind of request that will be made, on one small object. Removes those of processes that were killed at it. */
async function probe(place: Place, create: (path: string) => Promise<S3Sink>): Promise<void> {
  const { bucket, keyOf, urlOf } = place;
  const name = `${PROBE_PREFIX}${randomUUID()}`;
  const bytes = Buffer.alloc(PROBE_SIZE_BYTES, name);
  let action = "write";
  try {
    const file = await create(name);
    await file.write(bytes);
    await file.finish();
    action = "read";
    const parts: Uint8Array[] = [];
    for await (const part of bucket.get(keyOf(name))) parts.push(part);
    if (!Buffer.concat(parts).equals(bytes)) throw new ForeignAnswerError("other bytes were read than were written");
    action = "list";
    const old: string[] = [];
    for await (const { key, modifiedAt } of bucket.list(keyOf(PROBE_PREFIX))) {
      if (modifiedAt.getTime() < Date.now() - PROBE_LEFT_MS) old.push(key);
    }
    action = "remove";
    for (const key of old) await bucket.remove(key);
    await bucket.remove(keyOf(name));
    action = "begin an upload of";
    const uploadId = await bucket.startUpload(keyOf(name), name, AbortSignal.timeout(PROBE_TIMEOUT_MS));
    action = "drop the upload of";
    await bucket.abortUpload(keyOf(name), uploadId).catch((error: unknown) => {
      if (!isUnsupported(error)) throw error;
    });
  } catch (error) {
    throw s3Error(action, urlOf(name), error);
  }
}

class ForeignAnswerError extends Error {
  override readonly name = "ForeignAnswer";
}
