// S3 keeps the storage's contract, on a real server; and what only S3 has: uploads, their checksums, slow servers, errors.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { promisify } from "node:util";
import { crc32 } from "node:zlib";
import { GetObjectCommand, NoSuchKey } from "@aws-sdk/client-s3";
import { startS3Proxy } from "../../test/support/s3-proxy.ts";
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

const keys = join(import.meta.dirname, "..", "..", "test", "support", "tls");
const PART = 8 * 1024 * 1024;

function freshConfig(more: Partial<S3StorageConfig> = {}): S3StorageConfig {
  return server.config(`own/${randomUUID()}`, more);
}

async function bytesOf(storage: Storage, path: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of storage.read(path)) parts.push(part);
  return Buffer.concat(parts);
}

async function unfinishedOf(storage: Storage): Promise<string[]> {
  const found: string[] = [];
  for await (const { path } of storage.listUnfinished("")) found.push(path);
  return found;
}

async function failureOf(work: Promise<unknown>): Promise<PgFloError> {
  const error = await work.then(
    () => assert.fail("it did not fail"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof PgFloError, String(error));
  assert.ok(
    !error.message.includes(server.env.AWS_SECRET_ACCESS_KEY!) || server.env.AWS_SECRET_ACCESS_KEY === "S3RVER",
  );
  return error;
}

test("a slow server makes the writer wait: what is held of a file stays within its parts", async () => {
  await using proxy = await startS3Proxy(server.port, { bytesPerSecond: 25e6 });
  const storage = openStorage(freshConfig({ endpoint: proxy.endpoint }));
  const chunk = randomBytes(1 << 20);
  const file = await storage.create("big");
  let held = 0;
  for (let written = 0; written < 96 << 20; ) {
    await file.write(chunk);
    written += chunk.length;
    held = Math.max(held, written - proxy.sentBytes);
  }
  await file.finish();
  // One part that fills and three on their way; requests' heads count for the proxy and not here.
  assert.ok(held <= 4 * PART + chunk.length, `${held} bytes were held`);
  assert.ok(held > PART);
});

test("connections that break off are made up for, and the file is whole", async () => {
  let count = 0;
  const trouble = () => (++count % 4 === 2 ? "reset" : "none");
  await using proxy = await startS3Proxy(server.port, { trouble });
  const storage = openStorage(freshConfig({ endpoint: proxy.endpoint }));
  const whole = randomBytes(3 * PART + 5);
  const file = await storage.create("f");
  await file.write(whole);
  await file.finish();
  assert.ok(whole.equals(await bytesOf(storage, "f")));
  assert.ok(count > 6, `${count} requests`);
});

test("a reply that is lost behind the last request of an upload does not lose the file", async () => {
  let lost = 0;
  const trouble = (line: string) => (/^POST \S*uploadId=/.test(line) && lost++ === 0 ? "lose reply" : "none");
  await using proxy = await startS3Proxy(server.port, { trouble });
  const storage = openStorage(freshConfig({ endpoint: proxy.endpoint }));
  const whole = randomBytes(2 * PART);
  const file = await storage.create("f");
  await file.write(whole);
  assert.equal((await file.finish()).sizeBytes, whole.length);
  assert.ok(lost > 1);
  assert.ok(whole.equals(await bytesOf(storage, "f")));
});

for (const [checksum, size] of [
  ["crc32", 100_000],
  ["md5", 100_000],
  ["crc32", 2 * PART],
] as const) {
  test(`${size} bytes of which one changes on its way are refused (${checksum}), and nothing stays`, async () => {
    const trouble = (line: string) => (/^PUT /.test(line) ? "change a byte" : "none");
    await using proxy = await startS3Proxy(server.port, { trouble });
    const storage = openStorage(freshConfig({ endpoint: proxy.endpoint, checksum }));
    const file = await storage.create("f");
    const work = file.write(randomBytes(size)).then(() => file.finish());
    const error = await failureOf(work);
    assert.equal(error.code, "STORAGE_FAILED");
    await file.abort();
    for await (const { path } of storage.list("")) assert.fail(`${path} is there`);
    assert.deepEqual(await unfinishedOf(storage), []);
  });
}

test("an upload that is aborted while its parts are on their way leaves none at the server", async () => {
  await using proxy = await startS3Proxy(server.port, { bytesPerSecond: 50e6 });
  const storage = openStorage(freshConfig({ endpoint: proxy.endpoint }));
  const file = await storage.create("f");
  await file.write(randomBytes(3 * PART));
  const writing = file.write(randomBytes(3 * PART));
  await Promise.allSettled([writing, file.abort()]);
  await assert.rejects(writing);
  assert.deepEqual(await unfinishedOf(storage), []);
});

test("a server that goes away is told, and what comes after it is back works", async () => {
  await using proxy = await startS3Proxy(server.port, {});
  const storage = openStorage(freshConfig({ endpoint: proxy.endpoint }));
  const file = await storage.create("f");
  await file.write(randomBytes(PART));
  proxy.setOpen(false);
  const failed = failureOf(file.finish());
  const error = await failed;
  assert.equal(error.code, "STORAGE_FAILED");
  assert.equal(error.action, "retry");
  proxy.setOpen(true);
  await file.abort();
  const second = await storage.create("f");
  await second.write(Buffer.from("second"));
  await second.finish();
  assert.equal(String(await bytesOf(storage, "f")), "second");
});

test("a bucket that is not there, a key that is not known and a server that is not there are told apart", async () => {
  const probe = (more: Partial<S3StorageConfig>) => failureOf(openStorage(freshConfig(more)).probe());
  const noBucket = await probe({ bucket: "no-such-bucket-here" });
  // Some servers do not tell strangers which buckets there are.
  const told =
    /^\[STORAGE_(INVALID\] .*no such bucket.*; create the bucket|DENIED\] .*access denied.*; give this role)/;
  assert.match(noBucket.message, told);
  const noServer = await probe({ endpoint: "http://127.0.0.1:1" });
  assert.match(noServer.message, /^\[STORAGE_FAILED\] .*cannot be reached \(ECONNREFUSED.*; check endpoint and region/);
  const before = process.env.AWS_ACCESS_KEY_ID;
  process.env.AWS_ACCESS_KEY_ID = "AKIANOBODYKNOWSTHIS0";
  try {
    const noKey = await probe({});
    assert.match(noKey.message, /^\[STORAGE_DENIED\] .*does not know these credentials.*; check AWS_ACCESS_KEY_ID/);
  } finally {
    process.env.AWS_ACCESS_KEY_ID = before;
  }
});

test("a probe removes what one left that was killed, an hour later", async (t) => {
  const storage = openStorage(freshConfig());
  await (await storage.create(".pg-flo-probe-1")).finish();
  const now = Date.now.bind(Date);
  await storage.probe();
  const left = async () => {
    const found: string[] = [];
    for await (const { path } of storage.list("")) found.push(path);
    return found;
  };
  assert.deepEqual(await left(), [".pg-flo-probe-1"]);
  t.mock.method(Date, "now", () => now() + 3_700_000);
  await storage.probe();
  assert.deepEqual(await left(), []);
});

test("over TLS files arrive whole, and a certificate that is not trusted is told with the way to trust it", async () => {
  const [key, cert] = await Promise.all(["key", "pem"].map((kind) => readFile(join(keys, `server.${kind}`))));
  const proxy = createTlsServer({ key: key!, cert: cert! }, (client) => {
    const upstream = connect(server.port, "127.0.0.1");
    client.on("error", () => upstream.destroy()).pipe(upstream);
    upstream.on("error", () => client.destroy()).pipe(client);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  try {
    const endpoint = `https://localhost:${(proxy.address() as { port: number }).port}`;
    const config = freshConfig({ endpoint });
    const untrusted = await failureOf(openStorage(config).probe());
    assert.match(untrusted.message, /^\[STORAGE_INVALID\] .*certificate is not trusted.*; set NODE_EXTRA_CA_CERTS/);
    const script = `
      import { openStorage } from ${JSON.stringify(new URL("./open.ts", import.meta.url).href)};
      const storage = openStorage(${JSON.stringify(config)});
      await storage.probe();
      const file = await storage.create("f");
      await file.write(Buffer.alloc(${2 * PART + 3}, "x"));
      console.log(JSON.stringify(await file.finish()));`;
    const env = { ...process.env, ...server.env, NODE_EXTRA_CA_CERTS: join(keys, "ca.pem") };
    const child = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { env });
    const { checksum } = JSON.parse(child.stdout) as { checksum: string };
    const whole = await bytesOf(openStorage({ ...config, endpoint: server.endpoint }), "f");
    assert.deepEqual([whole.length, checksum], [2 * PART + 3, `crc32:${crc32(whole).toString(16).padStart(8, "0")}`]);
  } finally {
    await new Promise((resolve) => proxy.close(resolve));
  }
});
