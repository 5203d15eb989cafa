// Streamed equals a fresh copy, whatever happened to rows and definitions: random histories, by seed. The long form is
// test/chaos/schema-histories.test.ts.
import { after, before, describe, test } from "node:test";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";
import { playHistory } from "../support/schema-history.ts";

const { seed } = seededRandom();

for (const version of [14, 18] as const) {
  describe(`random histories on PostgreSQL ${version}`, () => {
    let server: TestServer;
    before(async () => {
      server = await startPostgres({ version });
    });
    after(() => server[Symbol.asyncDispose]());
    test(`of rows and definitions, seed ${seed}`, async () => {
      const { versions, copies } = await playHistory(server, seed, 12);
      console.log(`# ${versions} versions, ${copies} tables copied again`);
    });
  });
}
