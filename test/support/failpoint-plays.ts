// What brings a pipeline to the failpoints of operators' requests, of tables that are tried again, and of the WAL budget.
import assert from "node:assert/strict";
import type { Client } from "pg";
import type { Failpoint } from "../../src/base/failpoints.ts";
import type { FailpointRun } from "./failpoint-run.ts";
import type { TestDatabase } from "./postgres.ts";

interface Stage {
  readonly database: TestDatabase;
  readonly client: Client;
  readonly run: FailpointRun;
  readonly name: Failpoint;
}

export async function retried({ run, client, name }: Stage): Promise<void> {
  const error = JSON.stringify({ code: "TABLE_FAILED", message: "by the test", at: "2026-01-01T00:00:00Z" });
  await client.query(
    "update _pg_flo.tables set state = 'error', error = $1, retry_at = now() where table_name = 'wide'",
    [error],
  );
  await run.killedAt(name);
}

export async function resync({ run, name }: Stage): Promise<void> {
  await run.killedAt(name, { args: ["resync", "wide"] });
  assert.equal((await run.run(["resync", "public.w*"])).code, 0);
}

/** A transaction that stays open has the server keep all that was written since it began. */
export async function overBudget({ database, run, name }: Stage): Promise<void> {
  await run.restart();
  await run.configure({ more: ["wal_budget: { critical: 1MB, action: drop slot }"] });
  const keeping = await database.connect();
  await keeping.query("begin; insert into plain values (-5)");
  await database.client.query("create table filler as select repeat(md5(n::text), 20) from generate_series(1, 4000) n");
  await run.killedAt(name, { args: ["replicate"] });
  await keeping.query("commit");
  await assert.rejects(run.restart(), { code: "SLOT_LOST" });
  assert.equal((await run.run(["drop", "--yes", "--files"])).code, 0);
  await run.configure({ more: [] });
}
