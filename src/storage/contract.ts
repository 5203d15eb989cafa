// What every storage keeps (storage.ts), as tests. Each backend's own test file runs them on itself.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { PgFloError } from "../base/errors.ts";
import type { Storage, StoredEntry, UnfinishedFile } from "./storage.ts";

/** A storage that is empty, with a way to read a file back that is not the storage's own; undefined when there is none. */
export interface StorageUnderTest {
  readonly storage: Storage;
  readonly read: (path: string) => Promise<Uint8Array | undefined>;
  /** False for a server that cannot tell. */
  readonly listsUnfinished?: boolean;
}

/** Declares the contract's tests. `make` gives a fresh storage each time and cleans up after `t`. */
export function storageContract(
  name: string,
  make: (t: { after(done: () => void | Promise<void>): void }) => Promise<StorageUnderTest>,
): void {
  test(`${name}: a finished file has exactly the bytes written, with their size and checksum`, async (t) => {
    const { storage, read } = await make(t);
    const chunks = [randomBytes(1), randomBytes(0), randomBytes(1 << 20), randomBytes((1 << 20) + 7), randomBytes(3)];
    const whole = Buffer.concat(chunks);
    const file = await storage.create("app/public.a%20b/copy/000001-x.parquet");
    for (const chunk of chunks) await file.write(chunk);
    assert.deepEqual(await file.finish(), {
      path: "app/public.a%20b/copy/000001-x.parquet",
      sizeBytes: whole.length,
      checksum: `crc32:${crc32(whole).toString(16).padStart(8, "0")}`,
    });
    assert.deepEqual(Buffer.from((await read("app/public.a%20b/copy/000001-x.parquet"))!), whole);
    const parts: Uint8Array[] = [];
    for await (const part of storage.read("app/public.a%20b/copy/000001-x.parquet")) parts.push(part);
    assert.deepEqual(Buffer.concat(parts), whole);
  });

  test(`${name}: a missing file cannot be read, and the error says that it is missing`, async (t) => {
    const { storage } = await make(t);
    const reading = storage.read("app/none")[Symbol.asyncIterator]().next();
    await assert.rejects(reading, (error) => {
      assert.ok(error instanceof PgFloError, String(error));
      assert.deepEqual([error.code, error.facts.missing], ["STORAGE_FAILED", true]);
      return true;
    });
  });

  test(`${name}: sizes around a part and over several parts come out whole`, async (t) => {
    const { storage, read } = await make(t);
    const part = 8 * 1024 * 1024;
    const bytes = randomBytes(3 * part + 1);
    for (const size of [part - 1, part, part + 1, 3 * part, 3 * part + 1]) {
      const whole = bytes.subarray(0, size);
      const file = await storage.create("app/f");
      for (let from = 0; from < size; from += 1_000_003) await file.write(whole.subarray(from, from + 1_000_003));
      const { checksum, sizeBytes } = await file.finish();
      assert.deepEqual([sizeBytes, checksum], [size, `crc32:${crc32(whole).toString(16).padStart(8, "0")}`]);
      assert.ok(whole.equals((await read("app/f"))!), `${size} bytes`);
    }
  });

  test(`${name}: what is under way is listed as unfinished and not as a file, and can be dropped`, async (t) => {
    const { storage, listsUnfinished = true } = await make(t);
    const file = await storage.create("app/x/f.parquet");
    await file.write(randomBytes(9 * 1024 * 1024));
    assert.deepEqual(await paths(storage, "app"), []);
    const unfinished = async () => {
      const found: UnfinishedFile[] = [];
      for await (const each of storage.listUnfinished("app")) found.push(each);
      return found;
    };
    // The first part's request may be on its way.
    for (let tries = 0; listsUnfinished && tries < 100 && (await unfinished()).length === 0; tries++) await sleep(20);
    const found = await unfinished();
    if (!listsUnfinished) return await file.abort();
    assert.equal(found.length, 1);
    assert.match(found[0]!.path, /^app\/x\//);
    assert.ok(Math.abs(found[0]!.modifiedAt.getTime() - Date.now()) < 600_000);
    await storage.removeUnfinished(found[0]!);
    await storage.removeUnfinished(found[0]!);
    assert.deepEqual(await unfinished(), []);
    await assert.rejects(file.finish(), PgFloError);
    await file.abort();
    assert.deepEqual(await paths(storage, ""), []);
  });

  test(`${name}: the caller may use its buffer again after a write`, async (t) => {
    const { storage, read } = await make(t);
    const buffer = new Uint8Array(new SharedArrayBuffer(300_000), 100, 200_000);
    const file = await storage.create("f");
    for (const byte of [1, 2, 3]) await file.write(buffer.fill(byte));
    await file.finish();
    const found = (await read("f"))!;
    assert.deepEqual([found[0], found[199_999], found[200_000], found[400_000], found.length], [1, 1, 2, 3, 600_000]);
  });

  test(`${name}: an empty file is a file`, async (t) => {
    const { storage, read } = await make(t);
    assert.deepEqual(await (await storage.create("e")).finish(), {
      path: "e",
      sizeBytes: 0,
      checksum: "crc32:00000000",
    });
    assert.equal((await read("e"))!.length, 0);
  });

  test(`${name}: nothing is visible under a path before finish`, async (t) => {
    const { storage, read } = await make(t);
    const file = await storage.create("app/x/f.parquet");
    await file.write(randomBytes(100_000));
    assert.equal(await read("app/x/f.parquet"), undefined);
    assert.deepEqual(await paths(storage, "app"), []);
    await file.finish();
    assert.deepEqual(await paths(storage, "app"), ["app/x/f.parquet"]);
  });

  test(`${name}: an aborted file leaves nothing, and abort can be called at any time`, async (t) => {
    const { storage, read } = await make(t);
    const file = await storage.create("a/f");
    const write = file.write(randomBytes(1 << 20));
    await Promise.allSettled([write, file.abort()]);
    await file.abort();
    await assert.rejects(file.write(new Uint8Array(1)));
    await assert.rejects(file.finish());
    assert.deepEqual(await paths(storage, ""), []);
    const finished = await storage.create("a/g");
    await finished.finish();
    await finished.abort();
    assert.notEqual(await read("a/g"), undefined);
    await assert.rejects(finished.write(new Uint8Array(1)));
    await assert.rejects(finished.finish());
  });

  test(`${name}: a file finished under the path of another replaces it as a whole`, async (t) => {
    const { storage, read } = await make(t);
    for (const text of ["a longer first one", "second"]) {
      const file = await storage.create("p/f");
      await file.write(Buffer.from(text));
      await file.finish();
    }
    assert.equal(Buffer.from((await read("p/f"))!).toString(), "second");
    assert.deepEqual(await paths(storage, ""), ["p/f"]);
  });

  test(`${name}: many files are written at the same time`, async (t) => {
    const { storage, read } = await make(t);
    const names = Array.from({ length: 20 }, (_, index) => `app/t${index % 3}/${index}`);
    await Promise.all(
      names.map(async (path) => {
        const file = await storage.create(path);
        await file.write(Buffer.from(path));
        await file.finish();
      }),
    );
    assert.deepEqual(await paths(storage, ""), [...names].sort());
    for (const path of names) assert.equal(Buffer.from((await read(path))!).toString(), path);
  });

  test(`${name}: list gives every file below a folder with size and time, and none beside it`, async (t) => {
    const { storage } = await make(t);
    for (const path of ["app/a/1", "app/a/b/2", "app2/3", "ap/4", "5"]) {
      const file = await storage.create(path);
      await file.write(Buffer.from(path));
      await file.finish();
    }
    assert.deepEqual(await paths(storage, "app"), ["app/a/1", "app/a/b/2"]);
    assert.deepEqual(await paths(storage, "app/a"), ["app/a/1", "app/a/b/2"]);
    assert.deepEqual(await paths(storage, ""), ["5", "ap/4", "app/a/1", "app/a/b/2", "app2/3"]);
    assert.deepEqual(await paths(storage, "none/at/all"), []);
    const [entry] = await listed(storage, "app/a/b");
    assert.equal(entry!.sizeBytes, 9);
    assert.ok(Math.abs(entry!.modifiedAt.getTime() - Date.now()) < 600_000);
  });

  test(`${name}: a removed file is gone, its neighbour is not, and removing it again is no error`, async (t) => {
    const { storage, read } = await make(t);
    for (const path of ["a/b/1", "a/b/2"]) await (await storage.create(path)).finish();
    await storage.remove("a/b/1");
    await storage.remove("a/b/1");
    await storage.remove("never/was");
    assert.equal(await read("a/b/1"), undefined);
    assert.deepEqual(await paths(storage, ""), ["a/b/2"]);
    await storage.remove("a/b/2");
    await (await storage.create("a/b/3")).finish();
    assert.deepEqual(await paths(storage, ""), ["a/b/3"]);
  });

  test(`${name}: files are removed while they are listed`, async (t) => {
    const { storage } = await make(t);
    for (let index = 0; index < 30; index++) await (await storage.create(`a/${index % 4}/${index}`)).finish();
    for await (const entry of storage.list("a")) await storage.remove(entry.path);
    assert.deepEqual(await paths(storage, ""), []);
  });

  test(`${name}: paths that leave the root are refused`, async (t) => {
    const { storage } = await make(t);
    for (const path of ["../x", "a/../../x", "/etc/x", "a//b", "a/./b", "", ".", "..", "a/", "a\0b", "a\\b"]) {
      await assert.rejects(storage.create(path), /not a path below/, path);
      await assert.rejects(storage.remove(path), /not a path below/, path);
      if (path !== "") await assert.rejects(paths(storage, path), /not a path below/, path);
    }
  });

  test(`${name}: a probe succeeds and leaves nothing`, async (t) => {
    const { storage } = await make(t);
    await storage.probe();
    await storage.probe();
    assert.deepEqual(await paths(storage, ""), []);
  });
}

async function listed(storage: Storage, prefix: string): Promise<StoredEntry[]> {
  const entries: StoredEntry[] = [];
  for await (const entry of storage.list(prefix)) entries.push(entry);
  return entries;
}

async function paths(storage: Storage, prefix: string): Promise<string[]> {
  return (await listed(storage, prefix)).map((entry) => entry.path).sort();
}
