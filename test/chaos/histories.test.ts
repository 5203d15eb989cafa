// Random histories against the source's state after every COMMIT: PG_FLO_HISTORIES of them, from seed PG_FLO_SEED on.
import { test } from "node:test";
import { runLanes } from "../support/history/lanes.ts";
import { seededRandom } from "../support/replication-run.ts";

const TOGETHER = 10;
const count = Number(process.env.PG_FLO_HISTORIES ?? 2000);

test(`${count} random histories give the source's state at every position`, async (t) => {
  const { seed } = seededRandom();
  const options = {
    seeds: Math.ceil(count / TOGETHER),
    together: TOGETHER,
    lanes: Number(process.env.PG_FLO_LANES ?? 5),
    tell: console.log,
  };
  t.diagnostic(await runLanes({ ...options, firstSeed: seed, versions: [18, 17, 16, 15, 14] }));
});
