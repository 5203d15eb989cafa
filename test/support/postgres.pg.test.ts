import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { access } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { connectTo, postgresVersions, startPostgres } from "./postgres.ts";

for (const version of postgresVersions) {
  test(`PostgreSQL ${version} starts, survives a kill and a restart on the same port, and leaves no folder`, async () => {
    await using server = await startPostgres({ version });
    const { port } = server;
    await server.query("create table kept (id int)");
    await server.kill();
    await server.server.start();
    await server.restart({ settings: { wal_level: "replica" } });
    const rows = await server.query<{ level: string; version: string }>(
      "select current_setting('wal_level') level, current_setting('server_version_num') version from kept right join (select) s on true",
    );
    assert.equal(rows[0]?.level, "replica");
    assert.equal(Math.floor(Number(rows[0]?.version) / 10_000), version);
    assert.equal(server.port, port);
    await server.server.stop();
    await assert.rejects(access(server.server.folder));
  });
}

test("a wrong password is refused", async () => {
  await using server = await startPostgres();
  await assert.rejects(connectTo({ ...server.config(), password: "wrong" }), { code: "28P01" });
});

test("a test's database is dropped with its connections and slots, whatever its name", async () => {
  await using server = await startPostgres();
  {
    await using database = await server.createDatabase('odd "name" with.dots é');
    await database.client.query("select pg_create_logical_replication_slot('s', 'pgoutput')");
    await database.connect();
  }
  assert.deepEqual(await server.query("select slot_name from pg_replication_slots"), []);
});

test("a server ends and its folder goes when the process that started it is killed", async () => {
  const script = `
    const { startPostgres } = await import(${JSON.stringify(fileURLToPath(new URL("./postgres.ts", import.meta.url)))});
    const { server } = await startPostgres();
    console.log(JSON.stringify([server.folder, server.port]));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise<string>((resolve) => child.stdout.once("data", (text) => resolve(String(text))));
  const [folder] = JSON.parse(line) as [string, number];
  child.kill("SIGKILL");
  for (let waitMs = 0; waitMs < 20_000; waitMs += 50) {
    if (
      await access(folder).then(
        () => false,
        () => true,
      )
    )
      return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`${folder} is still there`);
});
