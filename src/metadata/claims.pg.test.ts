// Random histories of claims and lost leases; `npm run test:chaos` runs thousands of them.
import { after, before, test } from "node:test";
import { runClaimHistory } from "../../test/support/claim-history.ts";
import { makeMetadata } from "../../test/support/metadata.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { seededRandom } from "../../test/support/replication-run.ts";

const HISTORIES = 20;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("no epoch has two owners, and no batch and no range is lost or counted twice, whatever leases run out", async () => {
  const { next } = seededRandom();
  await using metadata = await makeMetadata(server, 8);
  for (let number = 0; number < HISTORIES; number++) {
    const size = { workers: 3, streams: 2, tables: 3, rangesOfTable: 3, steps: 25 };
    await runClaimHistory(metadata.pool, `h${number}`, size, next);
  }
});
