// The calls that pg-flo makes to an S3 server, one function for each, for one bucket. The only file that knows the AWS SDK,
// which is loaded with the first call: it costs memory and start time that a local storage must not pay. Throws the SDK's
// own errors (s3-error.ts explains them). https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
import { createHash } from "node:crypto";
import type { S3Client } from "@aws-sdk/client-s3";
import type { S3StorageConfig } from "../base/storage-config.ts";

/** Of one request, with waits that grow to 20 s between them. */
const ATTEMPTS_MAX = 6;
const CONNECT_TIMEOUT_MS = 10_000;
/** Without a byte in either direction. */
const SILENCE_TIMEOUT_MS = 60_000;
const SOCKETS_MAX = 64;
/** Of an object's metadata. */
const MARK = "pg-flo-upload";

/** What the server says about bytes that it took. */
export interface StoredPart {
  readonly etag: string | undefined;
  readonly crc32: string | undefined;
}

export interface UploadedPart extends StoredPart {
  readonly number: number;
}

export interface S3Object {
  readonly key: string;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

export interface S3Upload {
  readonly key: string;
  readonly uploadId: string;
  readonly startedAt: Date;
}

/** Bytes with their CRC-32 as S3 writes it: base64 of four bytes, big-endian. */
export interface CheckedBytes {
  readonly bytes: Uint8Array;
  readonly crc32: string;
}

export class S3Bucket {
  readonly #config: S3StorageConfig;
  readonly #bucket: { readonly Bucket: string };
  #loaded: Promise<{ readonly sdk: typeof import("@aws-sdk/client-s3"); readonly client: S3Client }> | undefined;

  constructor(config: S3StorageConfig) {
    this.#config = config;
    this.#bucket = { Bucket: config.bucket };
  }

  async put(key: string, checked: CheckedBytes, signal: AbortSignal): Promise<StoredPart> {
    const { sdk, client } = await this.#load();
    const input = { ...this.#bucket, Key: key, Body: checked.bytes, ...this.#checked(checked), ...this.#encryption() };
    const { ETag, ChecksumCRC32 } = await client.send(new sdk.PutObjectCommand(input), { abortSignal: signal });
    return { etag: ETag, crc32: ChecksumCRC32 };
  }

  /** Gives the upload's id. The object will have the mark, by which it is known again (`find`). */
  async startUpload(key: string, mark: string, signal: AbortSignal): Promise<string> {
    const { sdk, client } = await this.#load();
    const algorithm = this.#config.checksum === "crc32" ? ({ ChecksumAlgorithm: "CRC32" } as const) : {};
    const marked = { Metadata: { [MARK]: mark } };
    const input = { ...this.#bucket, Key: key, ...marked, ...algorithm, ...this.#encryption() };
    const { UploadId } = await client.send(new sdk.CreateMultipartUploadCommand(input), { abortSignal: signal });
    if (UploadId === undefined) throw new Error("the server gave no UploadId");
    return UploadId;
  }

  async putPart(
    upload: { readonly key: string; readonly uploadId: string; readonly number: number },
    checked: CheckedBytes,
    signal: AbortSignal,
  ): Promise<StoredPart> {
    const { sdk, client } = await this.#load();
    const { key, uploadId, number } = upload;
    const input = { ...this.#bucket, Key: key, UploadId: uploadId, PartNumber: number, Body: checked.bytes };
    const command = new sdk.UploadPartCommand({ ...input, ...this.#checked(checked) });
    const { ETag, ChecksumCRC32 } = await client.send(command, { abortSignal: signal });
    return { etag: ETag, crc32: ChecksumCRC32 };
  }

  async completeUpload(key: string, uploadId: string, parts: readonly UploadedPart[]): Promise<StoredPart> {
    const { sdk, client } = await this.#load();
    const listed = parts.map(({ number, etag, crc32 }) => ({
      PartNumber: number,
      ETag: etag,
      ...(crc32 === undefined ? {} : { ChecksumCRC32: crc32 }),
    }));
    const input = { ...this.#bucket, Key: key, UploadId: uploadId, MultipartUpload: { Parts: listed } };
    const { ETag, ChecksumCRC32 } = await client.send(new sdk.CompleteMultipartUploadCommand(input));
    return { etag: ETag, crc32: ChecksumCRC32 };
  }

  async abortUpload(key: string, uploadId: string): Promise<void> {
    const { sdk, client } = await this.#load();
    await client.send(new sdk.AbortMultipartUploadCommand({ ...this.#bucket, Key: key, UploadId: uploadId }));
  }

  /** The size and the mark of an object. Throws NotFound when there is none. */
  async find(key: string): Promise<{ readonly sizeBytes: number | undefined; readonly mark: string | undefined }> {
    const { sdk, client } = await this.#load();
    const found = await client.send(new sdk.HeadObjectCommand({ ...this.#bucket, Key: key }));
    return { sizeBytes: found.ContentLength, mark: found.Metadata?.[MARK] };
  }

  async *get(key: string): AsyncGenerator<Uint8Array> {
    const { sdk, client } = await this.#load();
    const { Body } = await client.send(new sdk.GetObjectCommand({ ...this.#bucket, Key: key }));
    yield* Body as AsyncIterable<Uint8Array>; // a node stream, always, in Node
  }

  async remove(key: string): Promise<void> {
    const { sdk, client } = await this.#load();
    await client.send(new sdk.DeleteObjectCommand({ ...this.#bucket, Key: key }));
  }

  async *list(prefix: string): AsyncGenerator<S3Object> {
    const { sdk, client } = await this.#load();
    for (let token: string | undefined, more = true; more; ) {
      const input = { ...this.#bucket, Prefix: prefix, ...(token === undefined ? {} : { ContinuationToken: token }) };
      const page = await client.send(new sdk.ListObjectsV2Command(input));
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key !== undefined) yield { key: Key, sizeBytes: Size ?? 0, modifiedAt: LastModified ?? new Date() };
      }
      token = page.NextContinuationToken;
      more = page.IsTruncated === true && token !== undefined;
    }
  }

  async *listUploads(prefix: string): AsyncGenerator<S3Upload> {
    const { sdk, client } = await this.#load();
    for (let marker: { KeyMarker?: string; UploadIdMarker?: string } = {}, more = true; more; ) {
      const page = await client.send(
        new sdk.ListMultipartUploadsCommand({ ...this.#bucket, Prefix: prefix, ...marker }),
      );
      for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
        if (Key !== undefined && UploadId !== undefined) {
          yield { key: Key, uploadId: UploadId, startedAt: Initiated ?? new Date() };
        }
      }
      const { NextKeyMarker, NextUploadIdMarker } = page;
      more = page.IsTruncated === true && NextKeyMarker !== undefined;
      marker = {
        ...(NextKeyMarker === undefined ? {} : { KeyMarker: NextKeyMarker }),
        ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }),
      };
    }
  }

  #load() {
    this.#loaded ??= loadClient(this.#config);
    return this.#loaded;
  }

  /** With it the server refuses bytes that changed on their way. */
  #checked({ bytes, crc32 }: CheckedBytes): { readonly ChecksumCRC32: string } | { readonly ContentMD5: string } {
    if (this.#config.checksum === "crc32") return { ChecksumCRC32: crc32 };
    return { ContentMD5: createHash("md5").update(bytes).digest("base64") };
  }

  #encryption() {
    const { encryption, kmsKeyId } = this.#config;
    if (encryption === undefined) return {};
    return { ServerSideEncryption: encryption, ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }) };
  }
}

async function loadClient(config: S3StorageConfig) {
  const sdk = await import("@aws-sdk/client-s3");
  const { region, endpoint, pathStyle, profile } = config;
  // Servers that are not AWS take any region, and the SDK insists on one.
  const needsRegion = region === undefined && endpoint !== undefined && !process.env.AWS_REGION;
  const client = new sdk.S3Client({
    ...(region === undefined ? {} : { region }),
    ...(needsRegion ? { region: "us-east-1" } : {}),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(profile === undefined ? {} : { profile }),
    forcePathStyle: pathStyle,
    maxAttempts: ATTEMPTS_MAX,
    // Ours are given with each call; the SDK's own would be a trailer that older servers do not know.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: SILENCE_TIMEOUT_MS,
      httpAgent: { maxSockets: SOCKETS_MAX },
      httpsAgent: { maxSockets: SOCKETS_MAX },
    },
  });
  // TLS keeps the bytes as they are and the signed CRC-32 proves it: their SHA-256 would cost a tenth of a copier's time.
  client.middlewareStack.add(
    (next) => (args) => {
      const request = args.request as { readonly protocol: string; readonly headers: Record<string, string> };
      if (request.protocol === "https:") request.headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD";
      return next(args);
    },
    { step: "build", name: "unsignedPayload" },
  );
  return { sdk, client };
}
