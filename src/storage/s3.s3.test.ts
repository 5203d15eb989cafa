// S3 keeps the storage's contract, on a real server; and what only S3 has: uploads, their checksums, slow servers, errors.
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { GetObjectCommand, NoSuchKey } from "@aws-sdk/client-s3";
import { startS3Server, type TestS3Server } from "../../test/support/s3-server.ts";
import { PgFloError } from "../base/errors.ts";
import type { S3StorageConfig } from "../base/storage-config.ts";
import { storageContract } from "./contract.ts";
import { openStorage } from "./open.ts";
import type { Storage } from "./storage.ts";

let server: TestS3Server;
before(async () => {
  server = await startS3Server();
});
after(() => server[Symbol.asyncDispose]());

storageContract("s3", async () => {
  const prefix = `contract/${randomUUID()}`;
  const storage = openStorage(server.config(prefix));
  const read = async (path: string) => {
    try {
      const input = { Bucket: server.bucket, Key: `${prefix}/${path}` };
      const { Body } = await server.client.send(new GetObjectCommand(input));
      return await Body!.transformToByteArray();
    } catch (error) {
      if (error instanceof NoSuchKey) return undefined;
      throw error;
    }
  };
  return { storage, read, listsUnfinished: server.listsUploads };
});
