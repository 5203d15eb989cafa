// Random histories of rows and definitions, many of them: PG_FLO_HISTORIES (default 20) by version, from PG_FLO_SEED on.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";
import { playHistory } from "../support/schema-history.ts";

const { seed } = seededRandom();
const count = Number(process.env.PG_FLO_HISTORIES ?? 20);

for (const version of [14, 18] as const) {
  describe(`${count} random histories on PostgreSQL ${version}`, () => {
    let server: TestServer;
    const sums = { versions: 0, copies: 0 };
    before(async () => {
      server = await startPostgres({ version });
    });
    after(() => server[Symbol.asyncDispose]());
    for (let k = 0; k < count; k++) {
      test(`seed ${seed + k}`, async () => {
        const { versions, copies } = await playHistory(server, seed + k, 30);
        sums.versions += versions;
        sums.copies += copies;
      });
    }
    test("most definitions go on without a copy", () => {
      console.log(`# ${sums.versions} versions, ${sums.copies} tables copied again`);
      assert.ok(sums.versions > 0);
    });
  });
}
