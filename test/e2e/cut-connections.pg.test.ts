// Connections that are cut at random, or die without a word, between pg-flo and both databases, while it copies and
// while it streams: it goes on by itself, and nothing is lost or doubled.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { sampleOf } from "../support/long-form.ts";
import { type LossyProxy, startLossyProxy } from "../support/lossy-proxy.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { connectTo, startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, seededRandom, until } from "../support/replication-run.ts";

const RECEIVE_TIMEOUT_MS = 2000;
const names = [{ name: "keyed" }, { name: "plain" }];

let source: TestServer;
let elsewhere: TestServer;
before(async () => {
  [source, elsewhere] = await Promise.all([startPostgres(), startPostgres()]);
});
after(() => Promise.all([source[Symbol.asyncDispose](), elsewhere[Symbol.asyncDispose]()]));

interface Proxies {
  readonly toSource: LossyProxy;
  readonly toMetadata: LossyProxy;
}

for (const [how, hit] of [
  ["cut", (proxies: Proxies) => proxies.toSource.cut(0.4) + proxies.toMetadata.cut(0.4)],
  ["swallowed without a word", (proxies: Proxies) => proxies.toSource.swallow(0.3) + proxies.toMetadata.swallow(0.3)],
] as const) {
  for (const phase of sampleOf(["copy", "stream"] as const, 1, seededRandom().next)) {
    test(`connections to both databases are ${how} at random during the ${phase}, and nothing is lost`, async () => {
      const { next } = seededRandom();
      await using database = await source.createDatabase();
      await using metadata = await elsewhere.createDatabase();
      const { client } = database;
      await client.query(`create table keyed (id int primary key, n int, x text); create table plain (n int, x text);
        insert into keyed select n, n, md5(n::text) from generate_series(1, ${phase === "copy" ? 150_000 : 20_000}) n;
        insert into plain select n, md5(n::text) from generate_series(1, 20000) n`);
      await using toSource = await startLossyProxy(database.config, () => null, next);
      await using toMetadata = await startLossyProxy(metadata.config, () => null, next);
      const limits = { receiveTimeoutMs: RECEIVE_TIMEOUT_MS };
      await using run = await makeRun({
        group: database.name,
        source: { ...database.config, ...limits, port: toSource.port },
        metadata: { ...metadata.config, ...limits, port: toMetadata.port },
        more: ["lease: 30s"],
      });
      const stop = new AbortController();
      const writer = await connectTo(database.config);
      const writing = (async () => {
        for (let step = 0; !stop.signal.aborted; step++) {
          await writer.query(
            `begin; update keyed set n = n + 1 where id % 400 = ${step % 400}; insert into plain values (${step}, 'w');
             delete from keyed where id = ${step * 7}; update keyed set id = -id where id = ${step * 5 + 1}; commit`,
          );
          await sleep(10);
        }
      })();
      await using worker = run.start();
      try {
        await worker.saw(phase === "copy" ? /slot created/ : /table copied[\s\S]*table copied/);
        let hits = 0;
        for (let round = 0; round < 8; round++) {
          await sleep(how === "cut" ? 300 + 500 * next() : 500 + 2500 * next());
          assert.ok(worker.running, worker.stderr);
          hits += hit({ toSource, toMetadata });
        }
        assert.ok(hits > 0);
      } finally {
        stop.abort();
        await writing;
        await writer.end();
      }
      const { rows } = await client.query("select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn");
      const behind = `select (select count(*) from _pg_flo.tables where state <> 'streaming')
        + (select count(*) from _pg_flo.streams where coalesce(position, 0) < $1) as n`;
      await until("everything is durable", async () => {
        assert.ok(worker.running, worker.stderr);
        return Number((await metadata.client.query(behind, [rows[0].lsn])).rows[0].n) === 0;
      }).catch((error) => assert.fail(`${error.message}\n${worker.stderr}`));
      if (how !== "cut") assert.match(worker.stderr, /brought nothing for 2 s|Query read timeout/);
      worker.kill("SIGTERM");
      assert.equal((await worker.ended).code, 0, worker.stderr);
      await assertEqualToSource(
        { source: client, metadata: metadata.client, root: run.root, group: database.name },
        names,
      );
    });
  }
}

test("a connection that dies without a word while a slot is made is given up when the slot is there", async () => {
  await using database = await source.createDatabase();
  const { client } = database;
  await client.query("create table keyed (id int primary key); insert into keyed values (1)");
  const long = await database.connect();
  await long.query("begin; insert into keyed values (2)");
  await using proxy = await startLossyProxy(database.config);
  const config = { ...database.config, port: proxy.port, receiveTimeoutMs: RECEIVE_TIMEOUT_MS };
  await using run = await makeRun({ group: database.name, source: config, metadata: database.config });
  await using worker = run.start();
  await worker.saw(/creating the replication slot/);
  await sleep(2 * RECEIVE_TIMEOUT_MS); // it may take as long as it takes
  assert.doesNotMatch(worker.stderr, /brought nothing/);
  assert.ok(proxy.swallow(1) > 0);
  await long.query("commit");
  await worker.saw(/brought nothing for 2 s[\s\S]*table copied/);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await assertEqualToSource({ source: client, root: run.root, group: database.name }, [{ name: "keyed" }]);
});
