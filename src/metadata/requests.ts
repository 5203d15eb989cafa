// What an operator asks of the running workers of a group, by numbers that only grow: whoever looks sees at once whether
// something is new, and a worker that was away misses nothing. Rows are changed in the same transaction as the number.
// It refuses nothing by itself: what a state allows is in table-state.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { legalFrom, next, type TableState } from "./table-state.ts";
import { beginAnew } from "./tables.ts";

export interface Requests {
  /** Grows when a table was paused, resumed or is to be copied again. */
  readonly requests: bigint;
  /** Grows when the config is to be read again. */
  readonly reloads: bigint;
}

export interface ReloadAnswer {
  readonly accepted: boolean;
  /** For people; what is wrong with the config, or what changed and what waits for a restart. */
  readonly lines: readonly string[];
}

export interface WorkerReload {
  readonly workerId: string;
  readonly host: string;
  readonly pid: number;
  readonly heartbeatAgeMs: number;
  /** Null: it has not answered this reload yet. */
  readonly answer: ReloadAnswer | null;
}

export type TableRequest = "resync" | "pause" | "resume";

/** One small statement, every second. GROUP_MISSING: the group was dropped. */
export async function readRequests(db: Queryable, group: string): Promise<Requests> {
  const found = await row<{ requests: string; reloads: string }>(
    db,
    "select requests, reloads from _pg_flo.groups where name = $1",
    [group],
  );
  if (!found) throw groupMissing(group);
  return { requests: BigInt(found.requests), reloads: BigInt(found.reloads) };
}

/** Asks every worker to read its config again. Gives the request's number, which answers are bound to. */
export async function requestReload(db: Queryable, group: string): Promise<bigint> {
  const found = await row<{ reloads: string }>(
    db,
    "update _pg_flo.groups set reloads = reloads + 1 where name = $1 returning reloads",
    [group],
  );
  if (!found) throw groupMissing(group);
  return BigInt(found.reloads);
}

export async function answerReload(
  db: Queryable,
  answer: ReloadAnswer & { readonly workerId: string; readonly reload: bigint },
): Promise<void> {
  const { workerId, reload, accepted, lines } = answer;
  await rows(db, "update _pg_flo.workers set reload = $2, reload_answer = $3 where worker_id = $1 and reload <= $2", [
    workerId,
    reload.toString(),
    JSON.stringify({ accepted, lines }),
  ]);
}

/** Every worker of the group and what it says to this reload. One that began after it has the new config anyway. */
export async function readReloadAnswers(db: Queryable, group: string, reload: bigint): Promise<WorkerReload[]> {
  return rows<WorkerReload>(
    db,
    `select worker_id as "workerId", host, pid,
       (extract(epoch from clock_timestamp() - heartbeat_at) * 1000)::float8 as "heartbeatAgeMs",
       case when reload >= $2 then reload_answer end as answer
     from _pg_flo.workers where group_name = $1 order by started_at, worker_id`,
    [group, reload.toString()],
  );
}

/**
 * Pauses tables, ends their pause, or has them copied again, all or none. Gives the ids of those whose state allowed it.
 * A table that begins anew loses its files from the manifest at once: they are orphans, and go by age.
 */
export async function requestTables(
  db: Queryable,
  group: string,
  tableIds: readonly number[],
  request: TableRequest,
): Promise<readonly number[]> {
  return transaction(db, async (transaction) => {
    const known = await row(
      transaction,
      "update _pg_flo.groups set requests = requests + 1 where name = $1 returning 1",
      [group],
    );
    if (!known) throw groupMissing(group);
    const done =
      request === "pause"
        ? await pauseTables(transaction, group, tableIds)
        : (await beginAnew(transaction, group, tableIds, request === "resume" ? "resumed" : "copyAgain")).tableIds;
    // By a person's hand: what failed before counts no more.
    await rows(
      transaction,
      "update _pg_flo.tables set retries = 0, retry_at = null where table_id = any($1::bigint[])",
      [done],
    );
    failpoint("request.in-transaction");
    return done;
  });
}

async function pauseTables(transaction: Queryable, group: string, tableIds: readonly number[]): Promise<number[]> {
  const paused = await rows<{ table_id: string }>(
    transaction,
    `with chosen as (
       select table_id from _pg_flo.tables where group_name = $1 and table_id = any($2::bigint[]) and state = any($3)
       order by table_id for no key update)
     update _pg_flo.tables t set state = $4, error = null, updated_at = now()
     from chosen where t.table_id = chosen.table_id returning t.table_id`,
    [group, tableIds, legalFrom("paused"), next("streaming", { kind: "paused" }) satisfies TableState | null],
  );
  const ids = paused.map((table) => Number(table.table_id));
  await rows(transaction, "delete from _pg_flo.copy_ranges where table_id = any($1::bigint[])", [ids]);
  return ids;
}

function groupMissing(group: string): PgFloError {
  return new PgFloError("GROUP_MISSING", `group ${group}, not known to the metadata database, 0 rows`);
}
