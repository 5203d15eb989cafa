// COMMITs at the metadata get lost, or only their replies: no file is counted twice, none is forgotten.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startLossyProxy } from "../support/lossy-proxy.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, seededRandom, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("lost COMMITs and lost replies leave source and mirror equal, and the worker goes on by itself", async () => {
  const { next } = seededRandom();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table keyed (id int primary key, n int); create table plain (n int, x text);
    insert into keyed select n, n from generate_series(1, 60000) n;
    insert into plain select n, md5(n::text) from generate_series(1, 20000) n`);
  let lossy = true;
  const draw = (): "request" | "reply" | null => {
    const number = next();
    return !lossy || number > 0.2 ? null : number < 0.1 ? "request" : "reply";
  };
  await using proxy = await startLossyProxy(database.config, draw);
  const metadata = { ...database.config, port: proxy.port };
  await using run = await makeRun({ source: database.config, metadata, stream: "{ flush_interval: 100ms }" });
  const writer = await database.connect();
  let stopped = false;
  const writing = (async () => {
    for (let step = 0; !stopped; step++) {
      await writer.query(
        `begin; update keyed set n = n + 1 where id % 400 = ${step % 400}; insert into plain values (${step}, 'w'), (${step}, 'w');
         delete from keyed where id = ${step * 7}; update keyed set id = -id where id = ${step * 5 + 1}; commit`,
      );
      await sleep(3);
    }
  })();
  await using worker = run.start();
  try {
    await until("enough was lost", async () => {
      assert.ok(worker.running, worker.stderr);
      return proxy.lost.requests + proxy.lost.replies >= 12 && proxy.lost.replies >= 4;
    });
    lossy = false;
    const copied = "select bool_and(state = 'streaming') as yes from _pg_flo.tables";
    await until("all is copied", async () => (await client.query(copied)).rows[0].yes === true);
  } finally {
    stopped = true;
    await writing;
  }
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "keyed" }, { name: "plain" }]);
});
