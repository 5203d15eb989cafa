// Every error of an S3 server has a code, a fact and a fix. A scripted server answers; the SDK and the storage are the real ones.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { inspect } from "node:util";
import { PgFloError } from "../base/errors.ts";
import type { S3StorageConfig } from "../base/storage-config.ts";
import { openS3Storage } from "./s3.ts";

const SECRET = "hush/very+secret";

type Answer = readonly [status: number, body: string | Buffer];

function answering(status: number, body: string) {
  return answeringBy(() => [status, body]);
}

async function answeringBy(answer: (method: string, url: string, body: Buffer) => Answer) {
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    const [status, text] = answer(request.method ?? "", request.url ?? "", body);
    response.writeHead(status).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function xml(code: string, more = ""): string {
  return `<?xml version="1.0"?><Error><Code>${code}</Code><Message>the server's words, password=${SECRET}</Message>${more}</Error>`;
}

async function failure(config: Partial<S3StorageConfig>, env: Record<string, string> = {}): Promise<PgFloError> {
  const set = { AWS_ACCESS_KEY_ID: "AKIATEST", AWS_SECRET_ACCESS_KEY: SECRET, AWS_REGION: "us-east-1", ...env };
  const before = Object.keys(set).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, set);
  const storage = {
    kind: "s3",
    bucket: "bucket",
    prefix: "a/b",
    pathStyle: true,
    checksum: "crc32",
    ...config,
  } as const;
  try {
    await openS3Storage(storage).probe();
  } catch (error) {
    assert.ok(error instanceof PgFloError, inspect(error));
    // However it is printed: with its cause, its facts, at any depth.
    assert.ok(!inspect(error, { depth: 20, showHidden: true }).includes(SECRET), "the secret is in the error");
    return error;
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
  assert.fail("it did not fail");
}

const answers: readonly (readonly [status: number, body: string, message: RegExp])[] = [
  [
    403,
    xml("AccessDenied"),
    /^\[STORAGE_DENIED\] s3:\/\/bucket\/a\/b\/.* write, access denied \(AccessDenied, HTTP 403: .*; give this role s3:PutObject/,
  ],
  [403, xml("InvalidAccessKeyId"), /^\[STORAGE_DENIED\] .*does not know these credentials.*; check AWS_ACCESS_KEY_ID/],
  [403, xml("SignatureDoesNotMatch"), /^\[STORAGE_DENIED\] .*the signature is wrong, so the secret key is/],
  [400, xml("ExpiredToken"), /^\[STORAGE_DENIED\] .*have expired.*; get new ones/],
  [404, xml("NoSuchBucket"), /^\[STORAGE_INVALID\] .*no such bucket.*; create the bucket/],
  [
    301,
    xml("PermanentRedirect", "<Region>eu-west-3</Region>"),
    /^\[STORAGE_INVALID\] .*another region.*; add region=eu-west-3 to the key storage/,
  ],
  [
    400,
    xml("AuthorizationHeaderMalformed", "<Region>eu-north-1</Region>"),
    /^\[STORAGE_INVALID\] .*another region.*; add region=eu-north-1/,
  ],
  [403, xml("RequestTimeTooSkewed"), /^\[STORAGE_FAILED\] .*clock of this machine.*; set the clock/],
  [507, xml("QuotaExceeded"), /^\[STORAGE_FULL\] .*no space left.*; free space/],
  [400, xml("BadDigest"), /^\[STORAGE_FAILED\] .*bytes changed on their way/],
  [501, xml("NotImplemented"), /^\[STORAGE_INVALID\] .*does not know a request.*; add checksum=md5/],
  [400, xml("SomethingNew"), /^\[STORAGE_FAILED\] .*the server refused \(SomethingNew, HTTP 400: the server's words/],
  [403, "", /^\[STORAGE_DENIED\] .*access denied/],
  [404, "<html>no such page</html>", /^\[STORAGE_INVALID\] .*not an S3 server.*; correct bucket and endpoint/],
  [200, "<html>welcome</html>", /^\[STORAGE_INVALID\] .*not an S3 server.*; correct endpoint/],
];

for (const [status, body, message] of answers) {
  test(`HTTP ${status} ${/<Code>(\w+)/.exec(body)?.[1] ?? JSON.stringify(body)} says what is wrong and what to do`, async () => {
    await using server = await answering(status, body);
    assert.match((await failure({ endpoint: server.endpoint })).message, message);
  });
}

for (const [denied, message] of [
  ["list", /, list, access denied .*s3:ListBucket /],
  ["remove", /, remove, access denied .*s3:DeleteObject/],
  ["begin", /, begin an upload of, access denied .*s3:PutObject/],
  ["drop", /, drop the upload of, access denied .*s3:AbortMultipartUpload/],
] as const) {
  test(`a role that may do all but ${denied} is told what it may not`, async () => {
    let stored: Buffer = Buffer.alloc(0);
    await using server = await answeringBy((method, url, body) => {
      const upload = url.includes("uploadId=");
      const request = url.includes("list-type") ? "list" : url.includes("uploads") ? "begin" : upload ? "drop" : method;
      if (request === denied || (method === "DELETE" && !upload && denied === "remove"))
        return [403, xml("AccessDenied")];
      if (request === "PUT") stored = body;
      if (request === "GET") return [200, stored];
      if (request === "begin")
        return [200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"];
      if (request === "list") return [200, "<ListBucketResult></ListBucketResult>"];
      return [method === "DELETE" ? 204 : 200, ""];
    });
    const error = await failure({ endpoint: server.endpoint });
    assert.equal(error.code, "STORAGE_DENIED");
    assert.match(error.message, message);
  });
}

test("without credentials the ways to give some are told", async () => {
  await using server = await answering(200, "");
  const nothing = {
    AWS_ACCESS_KEY_ID: "",
    AWS_SECRET_ACCESS_KEY: "",
    AWS_EC2_METADATA_DISABLED: "true",
    HOME: "/nonexistent",
  };
  const error = await failure({ endpoint: server.endpoint }, nothing);
  assert.match(error.message, /^\[STORAGE_DENIED\] .*no credentials were found.*; set AWS_ACCESS_KEY_ID/);
});

test("a profile that is not there gives no credentials", async () => {
  await using server = await answering(200, "");
  const nothing = { AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "", HOME: "/nonexistent" };
  const error = await failure({ endpoint: server.endpoint, profile: "nobody" }, nothing);
  assert.match(error.message, /^\[STORAGE_DENIED\] .*no credentials were found/);
});

test("without a region the ways to give one are told", async () => {
  const error = await failure({ pathStyle: false }, { AWS_REGION: "", HOME: "/nonexistent" });
  assert.match(error.message, /^\[STORAGE_INVALID\] .*no region is known.*; add region=/);
});

test("https towards a server that speaks http is told", async () => {
  await using server = await answering(200, "");
  const error = await failure({ endpoint: server.endpoint.replace("http:", "https:") });
  assert.match(error.message, /^\[STORAGE_INVALID\] .*not an S3 server.*; correct endpoint/);
});
