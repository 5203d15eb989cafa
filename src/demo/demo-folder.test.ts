import assert from "node:assert/strict";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { makeTestFolder } from "../../test/support/folder.ts";
import { loadConfig } from "../config/load.ts";
import { prepareFolder, writeDemoConfig } from "./demo-folder.ts";

test("an earlier demo's folder is emptied, and its config is one that loads", async () => {
  await using folder = await makeTestFolder();
  const path = join(folder.path, "new", "demo");
  const demo = await prepareFolder(path);
  const server = { host: "127.0.0.1", port: 5433, database: "postgres", user: "postgres", password: "secret" };
  await writeDemoConfig(demo, { ...server, sslMode: "disable", connectTimeoutMs: 1000 });
  const config = loadConfig(demo.config, {});
  assert.partialDeepStrictEqual(config.source, server);
  assert.deepEqual(config.storage, { kind: "local", root: path });
  assert.equal((await stat(demo.config)).mode & 0o077, 0);
  await mkdir(join(path, "demo", "shop.orders"), { recursive: true });
  await prepareFolder(path);
  assert.deepEqual(await readdir(path), [".pg-flo-demo"]);
});

test("a folder with anything else in it is refused and stays as it is", async () => {
  for (const names of [["mine.txt"], ["pg-flo.yaml"], [".pg-flo-demo", "mine.txt"]]) {
    await using folder = await makeTestFolder();
    for (const name of names) await writeFile(join(folder.path, name), "mine");
    await assert.rejects(prepareFolder(folder.path), { code: "STORAGE_DENIED" });
    assert.deepEqual((await readdir(folder.path)).sort(), names.toSorted());
    assert.equal(await readFile(join(folder.path, names.at(-1)!), "utf8"), "mine");
  }
});
