// Files of a storage that DuckDB cannot open come over a cache: once, checked, and within its size.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { makeTestFolder } from "../../test/support/folder.ts";
import { PgFloError } from "../base/errors.ts";
import type { Manifest } from "../metadata/status.ts";
import { openLocalStorage } from "../storage/local.ts";
import type { Storage, StoredFile } from "../storage/storage.ts";
import { cachedFiles } from "./file-source.ts";

async function store(storage: Storage, path: string, bytes: Uint8Array): Promise<StoredFile> {
  const file = await storage.create(path);
  await file.write(bytes);
  return file.finish();
}

function manifestOf(files: readonly StoredFile[]): Manifest {
  return { group: "app", storageUrl: "", tables: [{ files }] } as unknown as Manifest;
}

async function setUp() {
  const folder = await makeTestFolder();
  const storage = openLocalStorage(join(folder.path, "storage"));
  const cache = join(folder.path, "cache");
  const fetches: number[] = [];
  const open = (files: readonly StoredFile[], sizeBytesMax = 1e9) =>
    cachedFiles({
      ...{ storage, manifest: manifestOf(files), folder: cache, sizeBytesMax },
      onFetch: (count) => fetches.push(count),
    });
  return { storage, cache, fetches, open, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

test("a file is fetched once, whole, and only when it is asked for", async () => {
  await using made = await setUp();
  const { storage, fetches, open } = made;
  const bytes = randomBytes(3_000_000);
  const files = [await store(storage, "app/a/1", bytes), await store(storage, "app/a/2", randomBytes(10))];
  const source = open(files);
  const path = source.pathOf("app/a/1");
  await Promise.all([source.fetch([path]), source.fetch([path])]);
  assert.ok(bytes.equals(await readFile(path)));
  await source.fetch([path]);
  await open(files).fetch([path, source.pathOf("app/a/2")]);
  assert.deepEqual(fetches.toSorted(), [1, 1, 1]);
});

test("a file that is not what the manifest says is refused and not kept", async () => {
  await using made = await setUp();
  const { storage, cache, open } = made;
  const file = await store(storage, "app/a/1", randomBytes(100));
  await store(storage, "app/a/1", randomBytes(100));
  const source = open([file]);
  await assert.rejects(source.fetch([source.pathOf("app/a/1")]), (error) => {
    assert.ok(error instanceof PgFloError);
    assert.match(
      error.message,
      /^\[STORAGE_FAILED\] .*app\/a\/1, read, 100 bytes with crc32:.*the manifest says 100 bytes/,
    );
    return true;
  });
  assert.deepEqual(
    (await readdir(cache, { recursive: true, withFileTypes: true })).filter((each) => each.isFile()),
    [],
  );
});

test("a file that is not there is told at once", async () => {
  await using made = await setUp();
  const { storage, open } = made;
  const file = await store(storage, "app/a/1", randomBytes(100));
  await storage.remove("app/a/1");
  const source = open([file]);
  await assert.rejects(source.fetch([source.pathOf("app/a/1")]), /STORAGE_FAILED.*the file is not there/);
});

test("what was not used for the longest time makes room, what was used a moment ago stays", async () => {
  await using made = await setUp();
  const { storage, cache, open } = made;
  const files: StoredFile[] = [];
  for (const name of ["1", "2", "3", "4"]) files.push(await store(storage, name, randomBytes(1000)));
  const source = open(files, 2500);
  const fetch = (name: string) => source.fetch([source.pathOf(name)]);
  const age = (name: string, hours: number) => {
    const time = new Date(Date.now() - hours * 3_600_000);
    return utimes(join(cache, name), time, time);
  };
  await fetch("1");
  await fetch("2");
  await age("1", 5);
  await age("2", 9);
  await fetch("1"); // used again
  await age("1", 5);
  await fetch("3");
  assert.deepEqual((await readdir(cache)).sort(), ["1", "3"]);
  await age("1", 0);
  await fetch("4");
  assert.deepEqual((await readdir(cache)).sort(), ["1", "3", "4"]);
});

test("a cache folder that cannot be made is told with the way to name another", async () => {
  await using made = await setUp();
  const { storage, cache, open } = made;
  const file = await store(storage, "a/1", randomBytes(10));
  await writeFile(cache, "");
  const source = open([file]);
  await assert.rejects(source.fetch([source.pathOf("a/1")]), /\[QUERY_FAILED\] .*name another folder with --cache/);
  assert.equal((await stat(cache)).size, 0);
});
