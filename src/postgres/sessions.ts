// Sessions of pg-flo itself at the source: taking turns by advisory locks, and ending one that a worker left behind.
// A worker that hangs or was suspended keeps its connections; whoever took its place in the metadata may end them.
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";

/** First half of two-part advisory lock keys ("pgfm", "pgfn" in ASCII); the second is the hash of a name. */
const lockClasses = { definitions: 0x7067666d, slot: 0x7067666e } as const;
const POLL_MS = 100;
const READER_WAIT_MS = 5000;

/** Waits for its turn, which ends with the session. False: somebody else still had it after `waitMs`. */
export async function takeTurn(
  client: ClientBase,
  what: keyof typeof lockClasses,
  name: string,
  waitMs: number,
): Promise<boolean> {
  for (const deadline = performance.now() + waitMs; ; await sleep(POLL_MS)) {
    const { rows } = await client.query<{ taken: boolean }>("select pg_try_advisory_lock($1, hashtext($2)) as taken", [
      lockClasses[what],
      name,
    ]);
    if (rows[0]!.taken || performance.now() > deadline) return rows[0]!.taken;
  }
}

/** Ends the session that has the turn: what it is about to do fails then. */
export async function endTurn(client: ClientBase, what: keyof typeof lockClasses, name: string): Promise<void> {
  await client.query(
    `select pg_terminate_backend(l.pid) from pg_locks l join pg_stat_activity a using (pid)
     where l.locktype = 'advisory' and l.granted and l.classid = $1::bigint::oid
       and l.objid = (hashtext($2)::bigint & 4294967295)::oid and a.pid <> pg_backend_pid() and a.usename = current_user`,
    [lockClasses[what], name],
  );
}

/**
 * Ends the session that works on the slot, if it has one of these application names and is of this role, and waits until
 * it is gone. SLOT_IN_USE: it is somebody else's, or does not go.
 */
export async function endSlotSession(client: ClientBase, slot: string, names: readonly string[]): Promise<void> {
  for (const deadline = performance.now() + READER_WAIT_MS; ; await sleep(POLL_MS)) {
    const { rows } = await client.query<{ pid: number; ours: boolean }>(
      `select s.active_pid as pid, coalesce(a.application_name = any($2) and a.usename = current_user, false) as ours
       from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid
       where s.slot_name = $1 and s.active_pid is not null`,
      [slot, names],
    );
    const reader = rows[0];
    if (!reader) return;
    if (!reader.ours || performance.now() > deadline) {
      throw new PgFloError("SLOT_IN_USE", `replication slot "${slot}", reader, process ${reader.pid} of the server`);
    }
    await client.query("select pg_terminate_backend($1)", [reader.pid]);
  }
}
