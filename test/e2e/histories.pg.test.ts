// The short form of test/chaos/histories.test.ts: random histories against the source's state after every COMMIT.
import { test } from "node:test";
import { runLanes } from "../support/history/lanes.ts";
import { seededRandom } from "../support/replication-run.ts";

test("a hundred random histories give the source's state at every position, whatever becomes of the workers", async (t) => {
  const { seed } = seededRandom();
  const options = { seeds: 10, together: 10, lanes: 2, versions: [18, 14] as const };
  t.diagnostic(await runLanes({ ...options, firstSeed: seed }));
});
