// Random values of every type through real workers: one round of `npm run test:types`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startPostgres } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";
import { runTypeRound } from "../support/type-rounds.ts";

test("random values of every type come through copy and stream, in both profiles, as Postgres has them", async (t) => {
  const { seed } = seededRandom();
  await using server = await startPostgres();
  const figures = await runTypeRound(server, { seed, rowCount: 100 });
  t.diagnostic(JSON.stringify(figures));
  assert.ok(figures.inexact > 0);
});
