// The short form of test/chaos/workers.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { makeChaosTables, writeAll } from "../support/chaos-tables.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";
import { openChaos } from "../support/worker-chaos.ts";

test("three workers on large, small and partitioned tables, killed, suspended and cut off at random: equal", async (t) => {
  const { next: random } = seededRandom();
  await using server = await startPostgres({ settings: { max_connections: 200 } });
  await using database = await server.createDatabase();
  await using metadata = await server.createDatabase();
  const sizes = { rows: 60_000, small: 25, partitions: 6 };
  const tables = await makeChaosTables(database.client, sizes);
  await using chaos = await openChaos({
    ...{ database, metadata, random },
    ...{ workers: 3, durationMs: 12_000, leaseMs: 2000, copy: "{ parallel: 2, file_size: 1MB }" },
  });
  const stop = new AbortController();
  const writing = writeAll(database, sizes, stop.signal);
  const report = await chaos.run().finally(() => stop.abort());
  const transactions = await writing;
  await chaos.catchUp();
  await assertEqualToSource(
    { source: database.client, metadata: metadata.client, root: chaos.root },
    tables.map((name) => ({ name })),
  );
  t.diagnostic(`${transactions} transactions, ${JSON.stringify(report)}`);
  assert.ok(transactions > 0);
});
