// The long form of test/e2e/kills.pg.test.ts: scale 20, 30 seconds of writing, ten kills.
import { after, before, test } from "node:test";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { pgbench, pgbenchTables, replicateWithKills } from "../support/pgbench-kills.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, seededRandom } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres({ settings: { max_wal_size: "4GB" } });
});
after(() => server[Symbol.asyncDispose]());

const variants = [
  { copy: "{ parallel: 2, file_size: 1MB }", more: [] },
  { copy: "{ parallel: 3, file_size: 8MB }", more: [] },
  { copy: "{ parallel: 2, file_size: 8MB }", more: ["compact: { every: 1s, grace: 0s }", "history: 5s", "lease: 5s"] },
];

for (const { copy, more } of variants) {
  test(`pgbench at scale 20, ten kills, copy: ${[copy, ...more].join(", ")}`, async () => {
    const { next } = seededRandom();
    await using database = await server.createDatabase();
    await pgbench(database.config, ["-i", "-q", "-s", "20"]);
    await using run = await makeRun({ source: database.config, copy, more });
    await Promise.all([
      replicateWithKills(run, { kills: 10, firstMs: 1500, lastMs: 5000, random: next }),
      pgbench(database.config, ["-n", "-c", "4", "-T", "30"]),
    ]);
    await run.catchUp(300_000);
    await assertEqualToSource(
      { source: database.client, root: run.root },
      pgbenchTables.map((name) => ({ name })),
    );
  });
}
