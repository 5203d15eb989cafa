import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import { makeTestFolder } from "../../test/support/folder.ts";
import { PgFloError } from "../base/errors.ts";
import { armFailpoints } from "../base/failpoints.ts";
import { removeLeftSpillFiles, SpillFile } from "./spill-file.ts";

const bytes = Uint8Array.from({ length: 5000 }, (_, index) => index * 7);

test("blocks come back as they were written, and the folder never shows a file that a crash could leave", async () => {
  await using folder = await makeTestFolder();
  const file = await SpillFile.create(folder.path);
  assert.deepEqual(await readdir(folder.path), []);
  const blocks = [];
  for (const size of [5000, 1, 300]) {
    const block = bytes.subarray(0, size);
    blocks.push({ position: await file.append(block), sizeBytes: size, crc: crc32(block), count: 1 });
  }
  assert.equal(file.sizeBytes, 5301);
  for (const block of blocks.reverse()) {
    const target = new Uint8Array(block.sizeBytes + 10);
    await file.read([block], target, 10);
    assert.deepEqual(target.subarray(10), bytes.subarray(0, block.sizeBytes));
  }
  await file.close();
});

test("a failure while the file is made leaves neither its name nor its handle, and is told as it was", async () => {
  await using folder = await makeTestFolder();
  const handles = () => readdir("/proc/self/fd").then((fds) => fds.length);
  const before = await handles();
  armFailpoints("spill.named=error(STORAGE_FULL)");
  await assert.rejects(SpillFile.create(folder.path), /STORAGE_FULL/);
  armFailpoints(undefined);
  assert.deepEqual(await readdir(folder.path), []);
  assert.equal(await handles(), before);
});

test("what a process left that ended while it made a file is removed, what lives or is no spill stays", async () => {
  await using folder = await makeTestFolder();
  const names = [`pg-flo-spill-${process.pid}-abc`, "pg-flo-spill-2147483647-abc", "pg-flo-spill-abc", "other"];
  for (const name of names) {
    await mkdir(join(folder.path, name));
    await writeFile(join(folder.path, name, "file"), "");
  }
  await removeLeftSpillFiles(folder.path);
  assert.deepEqual((await readdir(folder.path)).sort(), [names[0], "pg-flo-spill-abc", "other"].sort());
  await removeLeftSpillFiles(join(folder.path, "nowhere"));
});

test("a block that is not what was written is an error that names the folder", async () => {
  await using folder = await makeTestFolder();
  const file = await SpillFile.create(folder.path);
  const position = await file.append(bytes);
  const whole = { position, sizeBytes: 5000, crc: crc32(bytes), count: 1 };
  for (const block of [
    { ...whole, crc: 1 },
    { ...whole, position: 1 },
    { ...whole, position: 6000 },
  ]) {
    await assert.rejects(file.read([block], new Uint8Array(5000), 0), (error) => {
      assert.ok(error instanceof PgFloError && error.code === "STORAGE_FAILED");
      return error.message.includes(folder.path);
    });
  }
  await file.close();
});

test("a folder that is not there is an error that names it and the key", async () => {
  await using folder = await makeTestFolder();
  const missing = join(folder.path, "missing");
  await assert.rejects(SpillFile.create(missing), (error) => {
    assert.ok(error instanceof PgFloError && error.code === "STORAGE_FAILED");
    return error.message.includes(missing) && error.fix.includes("stream.spill_folder");
  });
});
