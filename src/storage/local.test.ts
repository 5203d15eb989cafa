import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { PgFloError } from "../base/errors.ts";
import { storageContract } from "./contract.ts";
import { openLocalStorage, TEMPORARY_PREFIX } from "./local.ts";
import { openStorage } from "./open.ts";

function makeFolder(t: { after(done: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), "pg-flo-storage-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

storageContract("local", async (t) => {
  const root = join(makeFolder(t), "made", "on demand");
  const read = async (path: string) => {
    try {
      return await readFile(join(root, path));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  };
  return { storage: openStorage({ kind: "local", root }), read };
});

async function entriesOf<Entry>(entries: AsyncIterable<Entry>): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of entries) found.push(entry);
  return found;
}

function isError(code: string, ...parts: string[]) {
  return (error: unknown) => {
    assert.ok(error instanceof PgFloError, String(error));
    assert.equal(error.code, code);
    for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in ${error.message}`);
    return true;
  };
}

test("a file under way has a temporary name that no glob of *.parquet finds, and a crash's is listed as unfinished", async (t) => {
  const root = makeFolder(t);
  const storage = openLocalStorage(root);
  const file = await storage.create("app/f.parquet");
  await file.write(new Uint8Array(10));
  const [name] = readdirSync(join(root, "app"));
  assert.match(name!, /^\.tmp-[0-9a-f-]{36}$/);
  assert.deepEqual(await entriesOf(storage.list("app")), []);
  const [unfinished, ...others] = await entriesOf(storage.listUnfinished("app"));
  assert.deepEqual([unfinished!.path, others], [`app/${name}`, []]);
  await storage.removeUnfinished(unfinished!);
  assert.deepEqual(readdirSync(root), []);
  await assert.rejects(file.finish(), isError("STORAGE_FAILED", "finish", "ENOENT"));
  await file.abort();
});

test("a full disk is STORAGE_FULL with the path and the fix, and what was written is dropped", async (t) => {
  const root = makeFolder(t);
  let opened = 0;
  // The device on which every write meets the system's own ENOSPC. The first file is an ordinary one.
  const storage = openLocalStorage(root, (path) => (++opened === 2 ? open("/dev/full", "w") : open(path, "wx")));
  await (await storage.create("app/first")).finish();
  const file = await storage.create("app/second");
  const full = isError("STORAGE_FULL", join(root, "app/second"), "ENOSPC", "free space at the storage");
  await assert.rejects(file.write(new Uint8Array(1 << 20)), full);
  await assert.rejects(file.finish(), /is broken/);
  await assert.rejects(file.write(new Uint8Array(1)), /is broken/);
  await file.abort();
  assert.deepEqual(readdirSync(join(root, "app")), ["first"]);
  await (await storage.create("other/f")).abort();
  assert.deepEqual(readdirSync(root), ["app"]);
});

test("a limit that stops a write half-way is told, and the half file is dropped", (t) => {
  const root = makeFolder(t);
  // ulimit -f counts blocks of 512 or 1024 bytes; the kernel takes the first part of the write, then refuses the rest.
  const script = `
    import { openLocalStorage } from ${JSON.stringify(new URL("./local.ts", import.meta.url).href)};
    const file = await openLocalStorage(${JSON.stringify(root)}).create("f");
    try { await file.write(new Uint8Array(1 << 20)); } catch (error) { console.log(error.message); }
    await file.abort();`;
  const output = execFileSync(
    "sh",
    ["-c", 'ulimit -f 100; exec "$0" --input-type=module -e "$1"', process.execPath, script],
    {
      encoding: "utf8",
    },
  );
  assert.match(output, /^\[STORAGE_FAILED\] .*EFBIG.*; raise the limit/);
  assert.deepEqual(readdirSync(root), []);
});

test("a folder that may not be written is STORAGE_DENIED, for root too", async () => {
  // /sys takes no new files from anyone.
  const storage = openLocalStorage("/sys/pg-flo");
  await assert.rejects(storage.create("app/f"), isError("STORAGE_DENIED", "/sys/pg-flo", "give this user the right"));
  await assert.rejects(storage.probe(), isError("STORAGE_DENIED", "/sys/pg-flo"));
});

test("a file that stands where a folder belongs is told", async (t) => {
  const root = makeFolder(t);
  writeFileSync(join(root, "app"), "");
  const storage = openLocalStorage(root);
  await assert.rejects(storage.create("app/f"), isError("STORAGE_FAILED", "a file stands where a folder is needed"));
  await assert.rejects(openLocalStorage(join(root, "app")).probe(), isError("STORAGE_FAILED", "a file stands"));
  mkdirSync(join(root, "folder"));
  const file = await storage.create("folder");
  await assert.rejects(file.finish(), isError("STORAGE_FAILED", "a folder stands where the file belongs"));
  await file.abort();
  assert.deepEqual(await entriesOf(storage.list("app")), []);
  assert.deepEqual(readdirSync(root), ["app", "folder"]);
});

test("a probe makes no folder that stays", async (t) => {
  const parent = makeFolder(t);
  await openLocalStorage(join(parent, "a", "b")).probe();
  assert.deepEqual(readdirSync(parent), []);
  await openLocalStorage(parent).probe();
  assert.ok(existsSync(parent));
});

test("a probe that fails half-way leaves nothing", async (t) => {
  const parent = makeFolder(t);
  const storage = openLocalStorage(parent, () => open("/dev/full", "w"));
  await assert.rejects(storage.probe(), isError("STORAGE_FULL", "ENOSPC"));
  assert.deepEqual(readdirSync(parent), []);
});

test("probes of many workers that start together do not take each other's folder away", async (t) => {
  const parent = makeFolder(t);
  const storages = Array.from({ length: 8 }, () => openLocalStorage(join(parent, "a", "b")));
  for (let round = 0; round < 50; round++) await Promise.all(storages.map((storage) => storage.probe()));
  // Who made "a" may have left it to another one whose file was in it, and takes it away the next time.
  for (const storage of storages) await storage.probe();
  assert.deepEqual(readdirSync(parent), []);
});

test("a probe removes what one left that was killed, an hour later", async (t) => {
  const root = makeFolder(t);
  writeFileSync(join(root, `${TEMPORARY_PREFIX}probe-1`), "");
  const hour = new Date(Date.now() - 3_700_000);
  writeFileSync(join(root, `${TEMPORARY_PREFIX}probe-2`), "");
  utimesSync(join(root, `${TEMPORARY_PREFIX}probe-2`), hour, hour);
  await openLocalStorage(root).probe();
  assert.deepEqual(readdirSync(root), [`${TEMPORARY_PREFIX}probe-1`]);
});

test("a probe goes by the storage's clock: this machine's may be hours ahead", async (t) => {
  const root = makeFolder(t);
  writeFileSync(join(root, `${TEMPORARY_PREFIX}probe-1`), "");
  const now = Date.now.bind(Date);
  t.mock.method(Date, "now", () => now() + 7_200_000);
  await openLocalStorage(root).probe();
  assert.deepEqual(readdirSync(root), [`${TEMPORARY_PREFIX}probe-1`]);
});

test("folders that became empty go with their last file, and files can be made there again", async (t) => {
  const root = makeFolder(t);
  const storage = openLocalStorage(root);
  await (await storage.create("app/t/stream/2026/01/01/00/1")).finish();
  await (await storage.create("app/u/1")).finish();
  await storage.remove("app/t/stream/2026/01/01/00/1");
  assert.deepEqual(readdirSync(join(root, "app")), ["u"]);
  await storage.remove("app/u/1");
  assert.deepEqual(readdirSync(root), []);
  const work = Array.from({ length: 200 }, async (_, index) => {
    const path = `app/x/y/${index}`;
    await (await storage.create(path)).finish();
    await storage.remove(path);
  });
  await Promise.all(work);
  assert.deepEqual(readdirSync(root), []);
  assert.ok(TEMPORARY_PREFIX.startsWith("."));
});
