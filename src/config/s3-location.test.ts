import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parseS3Location, s3Options } from "./s3-location.ts";

function storageOf(text: string) {
  const location = parseS3Location(text);
  return "storage" in location ? location.storage : assert.fail(location.mistake);
}

function mistakeOf(text: string): string {
  const location = parseS3Location(text);
  return "mistake" in location ? location.mistake : assert.fail(`${text} was taken`);
}

test("a bucket, a prefix and the options of a bucket are read", () => {
  const plain = { kind: "s3", bucket: "my-bucket", prefix: "", pathStyle: false, checksum: "crc32" };
  assert.deepEqual(storageOf("s3://my-bucket"), plain);
  assert.deepEqual(storageOf("s3://my-bucket/"), plain);
  assert.deepEqual(storageOf("S3://my-bucket/a/b c/"), { ...plain, prefix: "a/b c" });
  assert.deepEqual(storageOf("s3://my-bucket/p?region=eu-central-1&profile=prod&sse=aws:kms&sse_kms_key_id=alias/k"), {
    ...plain,
    ...{ prefix: "p", region: "eu-central-1", profile: "prod", encryption: "aws:kms", kmsKeyId: "alias/k" },
  });
  assert.deepEqual(storageOf("s3://my-bucket/p?endpoint=http%3A%2F%2Flocalhost%3A9000&checksum=md5"), {
    ...plain,
    ...{ prefix: "p", endpoint: "http://localhost:9000", pathStyle: true, checksum: "md5" },
  });
  assert.equal(storageOf("s3://my-bucket?endpoint=https://s3.example.com/&path_style=false").pathStyle, false);
});

test("what is wrong is told, and no value that may be a secret", () => {
  const wrong: readonly (readonly [string, RegExp])[] = [
    ["s3://", /s3:\/\/bucket\/prefix/],
    ["s3:///prefix", /s3:\/\/bucket\/prefix/],
    ["s3://Bucket/p", /3 to 63 characters/],
    ["s3://AKIAX:hush@bucket/p", /credentials do not belong here/],
    ["s3://bucket//p", /folders, without empty ones/],
    ["s3://bucket/a/../b", /folders, without empty ones/],
    ["s3://bucket/a#b", /no # in it/],
    ["s3://bucket/a?region=hush!", /^region is wrong \(its value is not shown\)/],
    ["s3://bucket/a?region=eu&region=us", /region is there twice/],
    ["s3://bucket/a?regoin=hush", /"regoin" is not an option of it, did you mean region\?/],
    ["s3://bucket/a?secret_access_key=hush", /credentials come from the environment/],
    ["s3://bucket/a?endpoint=ftp://hush", /endpoint is wrong/],
    ["s3://bucket/a?endpoint=http://a:hush@b", /endpoint is wrong/],
    ["s3://bucket/a?endpoint=http://b/hush", /endpoint is wrong/],
    ["s3://bucket/a?path_style=yes", /true or false/],
    ["s3://bucket/a?sse_kms_key_id=hush", /needs sse=aws:kms/],
  ];
  for (const [text, message] of wrong) {
    const mistake = mistakeOf(text);
    assert.match(mistake, message, text);
    assert.ok(!mistake.includes("hush"), mistake);
  }
});

test("docs/s3.md has every option with what is allowed, and no other", () => {
  const page = readFileSync(new URL("../../docs/s3.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `(\w+)` \| ([^|]+) \|/gm)].map(([, name, allowed]) => [name, allowed]);
  assert.deepEqual(
    rows,
    Object.entries(s3Options).map(([name, { allowed }]) => [name, allowed]),
  );
});
