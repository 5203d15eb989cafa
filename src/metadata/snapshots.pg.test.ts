import assert from "node:assert/strict";
import { test } from "node:test";
import { at, makeGroup, makeMetadata, makeWorker, waitForLock } from "../../test/support/metadata.ts";
import { startPostgres } from "../../test/support/postgres.ts";
import { registerSnapshot } from "./snapshots.ts";
import { releaseWorker } from "./workers.ts";

test("a worker that is taken for dead before it registers a snapshot, or meanwhile, is told so", async () => {
  await using server = await startPostgres();
  await using metadata = await makeMetadata(server);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  const [early, late] = [await makeWorker(pool, group), await makeWorker(pool, group)];
  const register = (workerId: string) => registerSnapshot(pool, { group, workerId, lsn: at(100), name: "00-1" });
  assert.equal(await register(early), true);
  assert.equal(await register(early), true);
  await releaseWorker(pool, early);
  assert.equal(await register(early), false);

  const robber = await metadata.database.connect();
  await robber.query("begin");
  await robber.query("delete from _pg_flo.workers where worker_id = $1", [late]);
  const registering = register(late);
  await waitForLock(robber);
  await robber.query("commit");
  assert.equal(await registering, false);
});
