// Several workers of a group, in a folder and in a bucket, while everything happens to them that can. PG_FLO_MINUTES for
// each (default 10), PG_FLO_SEED repeats the choices. The stream of a worker that died must move within its lease and 10 s.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { fetchBucket } from "../support/bucket-folder.ts";
import { makeChaosTables, writeAll } from "../support/chaos-tables.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";
import { startS3Proxy } from "../support/s3-proxy.ts";
import { startS3Server, type TestS3Server } from "../support/s3-server.ts";
import { openChaos } from "../support/worker-chaos.ts";

const minutes = Number(process.env.PG_FLO_MINUTES ?? 10);
const workers = Number(process.env.PG_FLO_WORKERS ?? 4);
const sizes = { rows: Number(process.env.PG_FLO_ROWS ?? 2_000_000), small: 200, partitions: 50 };
const LEASE_MS = 5000;
const MOVE_MS = LEASE_MS + 10_000;

let server: TestServer;
let s3: TestS3Server;
before(async () => {
  server = await startPostgres({ settings: { max_connections: 300, max_wal_size: "8GB", max_wal_senders: 40 } });
  s3 = await startS3Server();
});
after(async () => {
  await s3?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

for (const place of ["a folder", "a bucket"] as const) {
  test(`${workers} workers on one large, many small and a partitioned table, ${minutes} minutes, in ${place}`, async (t) => {
    const { next: random } = seededRandom();
    await using database = await server.createDatabase();
    await using metadata = await server.createDatabase();
    const tables = await makeChaosTables(database.client, sizes);
    await using proxy = await startS3Proxy(s3.port, {});
    const prefix = `chaos/${randomUUID()}`;
    const url = `s3://${s3.bucket}/${prefix}?endpoint=${proxy.endpoint}&region=us-east-1`;
    await using chaos = await openChaos({
      ...{ database, metadata, random, workers },
      ...{ durationMs: minutes * 60_000, leaseMs: LEASE_MS, copy: "{ parallel: 2, file_size: 4MB }" },
      ...(place === "a bucket" && { bucket: { url, proxy } }),
      // Copies go on all the time: a worker that starts finds a new table.
      meanwhile: async (number) => {
        const name = `later_${number}`;
        await database.client.query(`create table ${name} (id int primary key, x text);
          insert into ${name} select g, md5(g::text) from generate_series(1, 100000) g`);
        tables.push(name);
      },
    });
    const stop = new AbortController();
    const writing = writeAll(database, sizes, stop.signal);
    const report = await chaos.run().finally(() => stop.abort());
    const transactions = await writing;
    await chaos.catchUp();
    t.diagnostic(`${transactions} transactions; ${JSON.stringify(report.misfortunes)}`);
    const moves = report.movesMs.map((ms) => Math.round(ms)).sort((a, b) => a - b);
    t.diagnostic(`a stream moved ${moves.length} times, in ms: ${moves.join(" ")}; the lease is ${LEASE_MS}`);
    await using folder = place === "a bucket" ? await fetchBucket(s3, prefix, metadata.client) : null;
    const root = folder?.path ?? chaos.root;
    await assertEqualToSource(
      { source: database.client, metadata: metadata.client, root },
      tables.map((name) => ({ name })),
    );
    assert.ok(
      moves.every((ms) => ms <= MOVE_MS),
      `a stream moved only after ${moves.at(-1)} ms`,
    );
  });
}
