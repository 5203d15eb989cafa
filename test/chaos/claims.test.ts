// Thousands of random histories of claims and lost leases, on many connections at once. PG_FLO_HISTORIES says how many,
// PG_FLO_SEED which.
import { after, before, test } from "node:test";
import { runClaimHistory } from "../support/claim-history.ts";
import { makeMetadata } from "../support/metadata.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";

const histories = Number(process.env.PG_FLO_HISTORIES ?? 2000);
const LANES = 4;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test(`${histories} histories of claims: no epoch has two owners, nothing is lost or counted twice`, async () => {
  const { next } = seededRandom();
  await using metadata = await makeMetadata(server, LANES * 6);
  let number = 0;
  const lane = async () => {
    while (number < histories) {
      const group = `h${number++}`;
      const upTo = (most: number) => 1 + Math.floor(next() * most);
      const size = {
        workers: 1 + upTo(4),
        streams: upTo(3),
        tables: upTo(4),
        rangesOfTable: upTo(4),
        steps: 10 + upTo(50),
      };
      await runClaimHistory(metadata.pool, group, { ...size, tables: Math.max(size.tables, size.streams) }, next);
      await metadata.pool.query("delete from _pg_flo.groups where name = $1", [group]);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
});
