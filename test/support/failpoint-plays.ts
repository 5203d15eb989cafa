// What brings a pipeline to the failpoints of operators' requests, of tables that are tried again, of the WAL budget, of
// compaction, repair and recovery, and of `drop`.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import type { Client } from "pg";
import type { Failpoint } from "../../src/base/failpoints.ts";
import type { FailpointRun } from "./failpoint-run.ts";
import type { TestDatabase } from "./postgres.ts";

export interface Scene {
  readonly database: TestDatabase;
  readonly client: Client;
  readonly run: FailpointRun;
  readonly name: Failpoint;
  readonly nth: number;
  /** Counts from 1. */
  nextStep(): number;
  /** One more transaction of everything. */
  write(): Promise<void>;
}

export async function retried({ run, client, name }: Scene): Promise<void> {
  const error = JSON.stringify({ code: "TABLE_FAILED", message: "by the test", at: "2026-01-01T00:00:00Z" });
  await client.query(
    "update _pg_flo.tables set state = 'error', error = $1, retry_at = now() where table_name = 'wide'",
    [error],
  );
  await run.killedAt(name);
}

export async function resync({ run, name }: Scene): Promise<void> {
  await run.killedAt(name, { args: ["resync", "wide"] });
  assert.equal((await run.run(["resync", "public.w*"])).code, 0);
}

/** A transaction that stays open has the server keep all that was written since it began. */
export async function overBudget({ database, run, name }: Scene): Promise<void> {
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

/** Only a process that was killed between its last file and that one's folder leaves an empty folder. */
async function assertNothingLeft({ run, name }: Scene): Promise<void> {
  if (name !== "drop.file-removed") return assert.deepEqual(await readdir(run.root), []);
  const entries = await readdir(run.root, { recursive: true, withFileTypes: true });
  assert.deepEqual(
    entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name),
    [],
  );
}

export async function dropped(scene: Scene): Promise<void> {
  const { run, name, nth, write } = scene;
  await write();
  await run.killedAt(name, { nth, args: ["drop", "--yes", "--files"] });
  assert.equal((await run.run(["drop", "--yes", "--files"])).code, 0);
  await assertNothingLeft(scene);
}

/** Several batches, whose files are merged; what a killed process held is taken over at once. */
export async function merged({ run, name, write }: Scene): Promise<void> {
  for (let batches = 0; batches < 3; batches++) {
    await write();
    await run.restart();
  }
  await run.killedAt(name, { args: ["compact"] });
  assert.equal((await run.run(["compact"])).code, 0);
}

/** All changes so far are older than the history. */
export async function folded({ run, client, name, write }: Scene): Promise<void> {
  await write();
  await run.restart();
  await client.query("update _pg_flo.files set created_at = created_at - interval '1 day'");
  await run.configure({ more: ["history: 1h", "compact: { grace: 0s }"] });
  await run.killedAt(name, { args: ["compact"] });
  assert.equal((await run.run(["compact"])).code, 0);
  await run.configure({ more: [] });
}

export async function droppedByForce(scene: Scene): Promise<void> {
  const { run, name, write } = scene;
  await write();
  await run.killedAt(name, { args: ["drop", "--yes", "--files", "--force"] });
  assert.equal((await run.run(["drop", "--yes", "--files", "--force"])).code, 0);
  await assertNothingLeft(scene);
}

/** Changes that the manifest lost are found and read again while a worker follows. */
export async function tampered({ run, client, name, write }: Scene): Promise<void> {
  for (let k = 0; k < 3; k++) await write();
  await run.restart();
  await client.query(`delete from _pg_flo.files where file_id = (
    select max(file_id) from _pg_flo.files where table_name = 't' and kind = 'stream')`);
  await using worker = run.start();
  await run.killedAt(name, { args: ["verify", "--repair"] });
  for (const args of [["verify", "--repair"], ["verify"]]) {
    const verified = await run.run(args);
    assert.equal(verified.code, 0, `${verified.stderr}${verified.stdout}`);
  }
  assert.ok(worker.running);
}

/** Changes, deletes and a change of the key happen while there is no slot. */
export async function recovered({ run, client, name, write }: Scene): Promise<void> {
  await run.restart();
  await client.query("select pg_drop_replication_slot(slot_name) from _pg_flo.streams");
  for (let k = 0; k < 3; k++) await write();
  const args = ["replicate", "--resync", "--until-caught-up"];
  await run.killedAt(name, { args });
  await write();
  const again = await run.run(args);
  assert.equal(again.code, 0, again.stderr);
}
