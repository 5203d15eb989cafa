// One file on its way to S3: parts go up while it is being made, a small one by a single request at its end. Holds one
// part that fills and a few in flight, never more: a slow server makes `write` wait. What the server says it stored is
// compared with what was sent, part by part and at the end.
import { createHash, randomUUID } from "node:crypto";
import { checksumText, crc32 } from "../base/crc32.ts";
import { Lanes } from "./lanes.ts";
import type { CheckedBytes, S3Bucket, StoredPart, UploadedPart } from "./s3-bucket.ts";
import { isMissing, isUnsupported, s3Error } from "./s3-error.ts";
import type { FileSink, StoredFile } from "./storage.ts";

/** S3 takes parts of 5 MiB and more, 10,000 of them: files up to 80 GB. Some servers want them all equal. */
export const PART_BYTES = 8 * 1024 * 1024;
const FIRST_BUFFER_BYTES = 64 * 1024;
/** Of one file. */
const PARTS_IN_FLIGHT_MAX = 3;

export interface S3SinkTarget {
  readonly bucket: S3Bucket;
  readonly key: string;
  /** The path that the storage's user knows. */
  readonly path: string;
  /** For messages. */
  readonly url: string;
  /** Of bytes in flight, shared by all files of a storage. */
  readonly lanes: Lanes;
}

type SinkState = "open" | "broken" | "finished" | "aborted";

export class S3Sink implements FileSink {
  readonly #target: S3SinkTarget;
  readonly #ownLanes = new Lanes(PARTS_IN_FLIGHT_MAX);
  readonly #stop = new AbortController();
  readonly #mark = randomUUID();
  #state: SinkState = "open";
  /** A write or finish under way, for abort to wait for. */
  #work: Promise<unknown> = Promise.resolve();
  #buffer = Buffer.alloc(0);
  #length = 0;
  #sizeBytes = 0;
  #crc = 0;
  #upload: Promise<string> | undefined;
  /** A request that can make the object was sent. */
  #published = false;
  readonly #parts: UploadedPart[] = [];
  readonly #running: Promise<void>[] = [];
  #failure: unknown;

  constructor(target: S3SinkTarget) {
    this.#target = target;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#exclusively("write", async () => {
      this.#crc = crc32(bytes, this.#crc);
      for (let offset = 0; offset < bytes.byteLength; ) {
        offset += this.#fill(bytes, offset);
        if (this.#length === PART_BYTES) await this.#sendPart();
      }
      this.#sizeBytes += bytes.byteLength;
      this.#throwFailure();
    });
  }

  async finish(): Promise<StoredFile> {
    await this.#exclusively("finish", async () => {
      if (this.#running.length === 0) await this.#putWhole();
      else await this.#completeUpload();
    });
    this.#state = "finished";
    const { path } = this.#target;
    return { path, sizeBytes: this.#sizeBytes, checksum: checksumText(this.#crc) };
  }

  async abort(): Promise<void> {
    if (this.#state === "finished" || this.#state === "aborted") return;
    this.#stop.abort();
    await Promise.allSettled([this.#work, ...this.#running]);
    try {
      await this.#dropUpload();
      if (this.#published) await this.#target.bucket.remove(this.#target.key);
    } catch (error) {
      throw s3Error("drop the upload of", this.#target.url, error);
    }
    this.#state = "aborted";
  }

  /** Neither a second write nor a finish may come between; a failure is final. */
  async #exclusively(action: string, work: () => Promise<void>): Promise<void> {
    if (this.#state !== "open") throw new Error(`${action} ${this.#target.path}: the file is ${this.#state}`);
    this.#state = "broken";
    this.#work = work();
    try {
      await this.#work;
    } catch (error) {
      throw s3Error("write", this.#target.url, this.#failure ?? error);
    }
    if (this.#stop.signal.aborted) throw new Error(`${action} ${this.#target.path}: the file is aborted`);
    this.#state = "open";
  }

  /** Copies what fits: the caller may use its bytes again. A small file never gets the buffer of a whole part. */
  #fill(bytes: Uint8Array, offset: number): number {
    const count = Math.min(bytes.byteLength - offset, PART_BYTES - this.#length);
    if (this.#length + count > this.#buffer.length) {
      const doubled = Math.max(FIRST_BUFFER_BYTES, this.#buffer.length * 2, this.#length + count);
      const larger = Buffer.allocUnsafeSlow(this.#running.length > 0 ? PART_BYTES : Math.min(PART_BYTES, doubled));
      larger.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = larger;
    }
    this.#buffer.set(bytes.subarray(offset, offset + count), this.#length);
    this.#length += count;
    return count;
  }

  #takeBuffer(): CheckedBytes {
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    return { bytes, crc32: base64Crc(crc32(bytes)) };
  }

  /** Waits until the part may go, not until it is there: that is the back-pressure. */
  async #sendPart(): Promise<void> {
    const ownRelease = await this.#ownLanes.take(1);
    const release = await this.#target.lanes.take(this.#length);
    this.#running.push(
      this.#putPart(this.#running.length + 1, this.#takeBuffer())
        .catch((error: unknown) => {
          this.#failure ??= error;
          this.#stop.abort();
        })
        .finally(() => {
          release();
          ownRelease();
        }),
    );
    this.#throwFailure();
  }

  async #putPart(number: number, checked: CheckedBytes): Promise<void> {
    const { bucket, key } = this.#target;
    this.#stop.signal.throwIfAborted();
    this.#upload ??= bucket.startUpload(key, this.#mark, this.#stop.signal);
    const uploadId = await this.#upload;
    const stored = await bucket.putPart({ key, uploadId, number }, checked, this.#stop.signal);
    refuseOtherBytes(stored, checked);
    this.#parts.push({ number, ...stored });
  }

  async #putWhole(): Promise<void> {
    const { bucket, key, lanes } = this.#target;
    const checked = this.#takeBuffer();
    await lanes.run(checked.bytes.byteLength, async () => {
      this.#stop.signal.throwIfAborted();
      this.#published = true;
      refuseOtherBytes(await bucket.put(key, checked, this.#stop.signal), checked);
    });
  }

  async #completeUpload(): Promise<void> {
    if (this.#length > 0) await this.#sendPart();
    await Promise.all(this.#running);
    this.#throwFailure();
    this.#stop.signal.throwIfAborted();
    const { bucket, key } = this.#target;
    const parts = this.#parts.toSorted((a, b) => a.number - b.number);
    const uploadId = await this.#upload!;
    this.#published = true;
    try {
      refuseOtherParts(await bucket.completeUpload(key, uploadId, parts), parts);
    } catch (error) {
      if (!(await this.#isComplete())) throw error;
    }
  }

  /** A reply that got lost: the request was repeated, and what it was about is a file by now, which servers tell as an error. */
  async #isComplete(): Promise<boolean> {
    try {
      const { sizeBytes, mark } = await this.#target.bucket.find(this.#target.key);
      return mark === this.#mark && sizeBytes === this.#sizeBytes;
    } catch {
      return false; // the first error is the one to tell
    }
  }

  async #dropUpload(): Promise<void> {
    const { bucket, key } = this.#target;
    const [upload] = await Promise.allSettled([this.#upload]);
    if (upload.status === "rejected" || upload.value === undefined) return; // it was never begun
    try {
      await bucket.abortUpload(key, upload.value);
    } catch (error) {
      // Gone already; or a server that cannot drop uploads, where nobody can do more.
      if (!isMissing(error) && !isUnsupported(error)) throw error;
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** The server's own words about what it has. One that says neither is believed: it was sent a checksum to refuse by. */
function refuseOtherBytes(stored: StoredPart, sent: CheckedBytes): void {
  const md5 = /^"?([0-9a-f]{32})"?$/.exec(stored.etag ?? "")?.[1];
  const wrong =
    stored.crc32 === undefined
      ? md5 !== undefined && md5 !== createHash("md5").update(sent.bytes).digest("hex")
      : stored.crc32 !== sent.crc32;
  if (wrong) throw new OtherBytesError();
}

/** Of several parts a server gives the checksum of their checksums, or the MD5 of their MD5s: `…-3`. */
function refuseOtherParts(stored: StoredPart, parts: readonly UploadedPart[]): void {
  const count = `-${parts.length}`;
  const crcs = Buffer.concat(parts.map((part) => Buffer.from(part.crc32 ?? "", "base64")));
  if (stored.crc32?.endsWith(count)) {
    if (stored.crc32 !== `${base64Crc(crc32(crcs))}${count}`) throw new OtherBytesError();
    return;
  }
  const [md5s, etag] = [parts.map((part) => part.etag?.replaceAll('"', "") ?? ""), stored.etag?.replaceAll('"', "")];
  if (!etag?.endsWith(count) || !md5s.every((md5) => /^[0-9a-f]{32}$/.test(md5))) return;
  const whole = createHash("md5")
    .update(Buffer.from(md5s.join(""), "hex"))
    .digest("hex");
  if (etag !== `${whole}${count}`) throw new OtherBytesError();
}

class OtherBytesError extends Error {
  override readonly name = "OtherBytes";
}

function base64Crc(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString("base64");
}
