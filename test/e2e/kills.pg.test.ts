// The worker is killed at random moments while pgbench writes: no row is lost, none is doubled.
import { after, before, test } from "node:test";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { pgbench, pgbenchTables, replicateWithKills } from "../support/pgbench-kills.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, seededRandom } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("pgbench's tables are equal row by row after the worker was killed in copy and stream", async () => {
  const { next } = seededRandom();
  await using database = await server.createDatabase();
  await pgbench(database.config, ["-i", "-q", "-s", "2"]);
  await using run = await makeRun({ source: database.config });
  await Promise.all([
    replicateWithKills(run, { kills: 4, firstMs: 1000, lastMs: 4000, random: next }),
    pgbench(database.config, ["-n", "-c", "4", "-T", "10"]),
  ]);
  await run.catchUp();
  await assertEqualToSource(
    { source: database.client, root: run.root },
    pgbenchTables.map((name) => ({ name })),
  );
});
