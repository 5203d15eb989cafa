// Random misfortune, one after the other, while an application writes: kills, stops, restarts of both servers, lost
// connections, tables that change, come and go. PG_FLO_ROUNDS tells how many times, PG_FLO_SEED repeats a run's choices.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { connectTo, startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, seededRandom } from "../support/replication-run.ts";

let source: TestServer;
let metadata: TestServer;
before(async () => {
  [source, metadata] = await Promise.all([startPostgres(), startPostgres()]);
});
after(() => Promise.all([source[Symbol.asyncDispose](), metadata[Symbol.asyncDispose]()]));

const TABLES = ["a", "b", "c", "d"];
const rounds = Number(process.env.PG_FLO_ROUNDS ?? 25);

const create = (
  table: string,
) => `create table ${table} (id int primary key, n int not null default 0, x text, large text);
  insert into ${table} select n, 0, md5(n::text), case when n % 50 = 0 then (select string_agg(md5(n::text || i), '') from generate_series(1, 90) i) end
  from generate_series(1, 15000) n;`;

async function write(database: string, signal: AbortSignal): Promise<void> {
  for (let step = 0; !signal.aborted; ) {
    try {
      const client = await connectTo(source.config(database));
      try {
        for (; !signal.aborted; step++) {
          const changes = TABLES.map(
            (table) => `update ${table} set n = n + 1 where id % 300 = ${step % 300};
              update ${table} set id = -id where id in (${step % 15000}, ${-((step * 3) % 15000)});
              delete from ${table} where id = ${(step * 13) % 15000};
              insert into ${table} (id, x) values (${100_000 + step}, 'new') on conflict do nothing;`,
          );
          await client.query(
            `begin; ${changes.join("\n")} insert into plain select ${step} from generate_series(1, 3); commit`,
          );
          await sleep(2);
        }
      } finally {
        await client.end().catch(() => {});
      }
    } catch {
      step++;
      await sleep(50); // the server is away, or a table is being altered
    }
  }
}

for (const apart of [false, true]) {
  test(`${rounds} misfortunes, metadata ${apart ? "on a server of their own" : "at the source"}`, async () => {
    const { next } = seededRandom();
    const database = apart ? "apart" : "together";
    await source.query(`create database ${database}`);
    await metadata.query(`create database ${database}`);
    await source.query(`${TABLES.map(create).join("\n")} create table plain (n int)`, database);
    await using run = await makeRun({
      group: database,
      source: source.config(database),
      ...(apart && { metadata: metadata.config(database) }),
      more: ["lease: 3s", ...(apart ? ["compact: { every: 2s, grace: 0s }", "history: 10s"] : [])],
    });
    const stop = new AbortController();
    const writing = write(database, stop.signal);
    const sql = (statement: string) => source.query(statement, database).catch(() => []);
    const table = () => TABLES[Math.floor(next() * TABLES.length)]!;
    let columns = 0;
    const misfortunes: readonly (() => Promise<unknown>)[] = [
      async () => {
        worker.kill("SIGKILL");
        await worker.ended;
        worker = run.start();
      },
      async () => {
        worker.kill("SIGTERM");
        const { code, signal, stderr } = await worker.ended;
        const beforeItListened = signal === "SIGTERM" && stderr === "";
        assert.ok(code === 0 || beforeItListened, `${code} ${signal}: ${stderr}`);
        worker = run.start();
      },
      () => source.restart({ mode: "fast" }),
      () => source.restart({ mode: "immediate" }),
      () => source.kill().then(() => source.server.start()),
      () => metadata.restart({ mode: next() < 0.5 ? "fast" : "immediate" }),
      () =>
        sql(
          `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}' and application_name like 'pg-flo%' and random() < 0.5`,
        ),
      () => sql(`alter table ${table()} add column c${columns++} int default ${columns}`),
      () => sql(`alter table ${table()} alter column n type ${next() < 0.5 ? "bigint" : "int"}`),
      () => sql(`vacuum full ${table()}`),
      () => sql(`truncate ${table()}, plain`),
      () => sql(`begin; drop table d; ${create("d")} commit`),
      async () => {
        worker.kill("SIGSTOP");
        await sleep(next() * 2000);
        worker.kill("SIGCONT");
      },
    ];
    let worker = run.start();
    const told: string[] = [];
    try {
      for (let round = 0; round < rounds; round++) {
        await sleep(200 + next() * 2500);
        const which = Math.floor(next() * misfortunes.length);
        told.push(String(misfortunes[which]));
        await misfortunes[which]?.();
        if (!worker.running && !/streaming/.test(worker.stderr)) {
          // At its start a worker tells what cannot be reached, and ends: whoever runs it starts it again.
          assert.match(worker.stderr, /^\[CONNECTION_(FAILED|LOST)\]/m);
          worker = run.start();
        }
        assert.ok(worker.running, `the worker ended by itself after ${told.slice(-3).join(" ")}: ${worker.stderr}`);
      }
      stop.abort();
      await writing;
    } finally {
      stop.abort();
      worker.kill("SIGKILL");
      await worker.ended;
      await writing;
    }
    await run.catchUp(120_000);
    const client = await connectTo(source.config(database));
    const meta = apart ? await connectTo(metadata.config(database)) : client;
    await assertEqualToSource(
      { source: client, metadata: meta, root: run.root, group: database },
      [...TABLES, "plain"].map((name) => ({ name })),
    );
    await client.end();
    if (meta !== client) await meta.end();
  });
}
