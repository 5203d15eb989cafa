// The demo as a stranger runs it. Its own proof is tested beside src/verify; here: that it comes to it, and what is left.
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { shopTables } from "../../src/demo/shop.ts";
import { openDuckDB } from "../../src/query/duckdb.ts";
import { runCli, spawnCli } from "../support/cli.ts";
import { makeTestFolder } from "../support/folder.ts";

test("demo --once ends with the proof, and its files can be queried without a server", async () => {
  await using folder = await makeTestFolder();
  const result = await runCli(["demo", "--once"], { cwd: folder.path });
  assert.equal(result.code, 0, result.stdout + result.stderr);
  assert.equal(result.stderr, "");
  assert.match(result.stdout, /^EQUAL: 11 tables, [\d,]+ rows$/m);
  assert.equal(result.stdout.match(/ {2}yes$/gm)?.length, shopTables.length);
  const left = await readdir(join(folder.path, "pg-flo-demo"));
  assert.deepEqual(left.sort(), [".pg-flo-demo", "demo", "pg-flo.yaml", "views.sql"]);
  assert.equal(await isOpen(await serverPort(join(folder.path, "pg-flo-demo"))), false);
  const { connection, close } = await openDuckDB({});
  try {
    await connection.run(await readFile(join(folder.path, "pg-flo-demo", "views.sql"), "utf8"));
    const orders = /^shop\.orders +(\d+) /m.exec(result.stdout)?.[1];
    const counted = await connection.runAndReadAll("SELECT count(*) FROM shop.orders");
    assert.equal(String(counted.getRows()[0]?.[0]), orders);
    const history = await connection.runAndReadAll("SELECT count(*) > 0 FROM shop.orders__changes");
    assert.deepEqual(history.getRows(), [[true]]);
  } finally {
    close();
  }
});

test("a demo that runs answers status and query, and ends with the proof on Ctrl-C", async () => {
  await using folder = await makeTestFolder();
  await using demo = spawnCli(["demo", "--folder", "here"], { cwd: folder.path });
  await demo.saw(/changes\/s/);
  const config = ["--config", join(folder.path, "here", "pg-flo.yaml")];
  const query = await runCli(["query", "select sum(balance) as sum from shop.customers", "--json", ...config]);
  assert.equal(query.code, 0, query.stderr);
  assert.match(query.stdout, /"sum":/);
  const status = await runCli(["status", "--json", ...config]);
  assert.equal(JSON.parse(status.stdout).tables.length, shopTables.length);
  demo.kill("SIGINT");
  const result = await demo.ended;
  assert.equal(result.code, 0, result.stdout + result.stderr);
  assert.match(result.stdout, /^EQUAL: /m);
});

test("a demo that is killed leaves no server behind", async () => {
  await using folder = await makeTestFolder();
  await using demo = spawnCli(["demo"], { cwd: folder.path });
  await demo.saw(/to replicate/);
  const port = await serverPort(join(folder.path, "pg-flo-demo"));
  assert.equal(await isOpen(port), true);
  demo.kill("SIGKILL");
  await demo.ended;
  for (let tries = 0; tries < 200 && (await isOpen(port)); tries++) await sleep(50);
  assert.equal(await isOpen(port), false);
});

test("a folder that is not a demo's is refused before anything starts", async () => {
  await using folder = await makeTestFolder();
  const result = await runCli(["demo", "--folder", join(folder.path, "..")]);
  assert.equal(result.code, 1);
  assert.match(result.stderr, /^\[STORAGE_DENIED\] .*--folder DIR/m);
});

async function serverPort(folder: string): Promise<number> {
  const config = await readFile(join(folder, "pg-flo.yaml"), "utf8");
  return Number(/@127\.0\.0\.1:(\d+)\//.exec(config)?.[1]);
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
