// Waits for the server to wait: a slot that is made wants the end of every transaction that runs.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";

/** Until this is true of something at the server. */
export async function untilTrue(client: Client, condition: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    if ((await client.query(`select where ${condition}`)).rowCount === 1) return;
    assert.ok(tries < 3000, condition);
    await sleep(10);
  }
}

/** Until something at the server waits for the end of this session's transaction. */
export async function untilAwaited(running: Client, client: Client): Promise<void> {
  const { rows } = await running.query("select pg_current_xact_id()::xid as xid");
  await untilTrue(client, `exists (select from pg_locks where not granted and transactionid = '${rows[0].xid}')`);
}
