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

for (const copy of ["{ parallel: 2, file_size: 1MB }", "{ parallel: 3, file_size: 8MB }"]) {
  test(`pgbench at scale 20, ten kills, copy: ${copy}`, async () => {
    const { next } = seededRandom();
    await using database = await server.createDatabase();
    await pgbench(database.config, ["-i", "-q", "-s", "20"]);
    await using run = await makeRun({ source: database.config, copy });
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
