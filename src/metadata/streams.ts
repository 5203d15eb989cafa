// Streams: who owns each slot's reading, and up to where everything is durable. Each take of a stream raises its
// epoch, and every write of an owner is bound to (owner, epoch): that fences out a worker that was replaced but does
// not know it yet. It refuses to move a position backward.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { legalFrom, next } from "./table-state.ts";
import type { TableKey } from "./tables.ts";

export type StreamState = "creating" | "active" | "lost";

export interface StreamKey {
  readonly group: string;
  readonly stream: number;
}

/** What a write of a stream's owner is bound to. */
export interface StreamFence extends StreamKey {
  readonly workerId: string;
  readonly epoch: bigint;
}

export interface Stream extends StreamKey {
  readonly slotName: string;
  readonly publications: readonly string[];
  readonly state: StreamState;
  readonly owner: string | null;
  readonly epoch: bigint;
  /** Everything with a commit LSN up to it is durable. Null before the stream is active. */
  readonly position: Lsn | null;
  /** Number of the newest committed batch. */
  readonly batch: bigint;
  /** Of the source, which the position is on; null before it was read for the first time. */
  readonly timeline: number | null;
}

export type StreamClaim =
  | { readonly taken: true; readonly stream: Stream; readonly fence: StreamFence }
  | { readonly taken: false; readonly owner: StreamOwner };

/** For people: who holds the stream. Host and pid are null when that worker's row is gone already. */
export interface StreamOwner {
  readonly workerId: string | null;
  readonly host: string | null;
  readonly pid: number | null;
  readonly heartbeatAgeMs: number | null;
  /** When the lease runs out if it is not renewed. */
  readonly leaseLeftMs: number | null;
}

interface StreamRow {
  readonly group_name: string;
  readonly stream: number;
  readonly slot_name: string;
  readonly publications: string[];
  readonly state: StreamState;
  readonly owner: string | null;
  readonly epoch: string;
  readonly position: string | null;
  readonly batch: string;
  readonly timeline: number | null;
}

const streamColumns = "group_name, stream, slot_name, publications, state, owner, epoch, position, batch, timeline";

/**
 * Makes the stream's row (state `creating`) unless it is there. Gives the stored one: its slot's name stays what it
 * was at first, whatever is asked for now.
 */
export async function ensureStream(
  db: Queryable,
  stream: StreamKey & { readonly slotName: string; readonly publications: readonly string[] },
): Promise<Stream> {
  await rows(
    db,
    `insert into _pg_flo.streams (group_name, stream, slot_name, publications) values ($1, $2, $3, $4)
     on conflict (group_name, stream) do nothing`,
    [stream.group, stream.stream, stream.slotName, stream.publications],
  );
  const stored = await readStream(db, stream);
  if (!stored) throw new PgFloError("GROUP_MISSING", `group ${stream.group}, dropped while this worker was starting`);
  return stored;
}

/** One stream as it is now. */
export async function readStream(db: Queryable, { group, stream }: StreamKey): Promise<Stream | undefined> {
  const found = await row<StreamRow>(
    db,
    `select ${streamColumns} from _pg_flo.streams where group_name = $1 and stream = $2`,
    [group, stream],
  );
  return found && toStream(found);
}

/** All streams of a group, by number. */
export async function readStreams(db: Queryable, group: string): Promise<Stream[]> {
  const found = await rows<StreamRow>(
    db,
    `select ${streamColumns} from _pg_flo.streams where group_name = $1 order by stream`,
    [group],
  );
  return found.map(toStream);
}

/**
 * Takes a stream that has no live owner, or that is this worker's already, and raises its epoch: whatever the owner
 * before still has under way can no longer be committed. `taken: false` tells who holds it. A `lost` stream can be
 * taken too: the caller looks at its state. GROUP_MISSING: there is no such stream.
 */
export async function claimStream(
  db: Queryable,
  claim: StreamKey & { readonly workerId: string; readonly leaseMs: number },
): Promise<StreamClaim> {
  const taken = await row<StreamRow>(
    db,
    `update _pg_flo.streams set owner = $3, epoch = epoch + 1, updated_at = now(),
       lease_until = clock_timestamp() + $4 * interval '1 millisecond'
     where group_name = $1 and stream = $2 and (owner is null or owner = $3 or lease_until < clock_timestamp())
       and exists (select from _pg_flo.workers where worker_id = $3)
     returning ${streamColumns}`,
    [claim.group, claim.stream, claim.workerId, claim.leaseMs],
  );
  if (taken) {
    const stream = toStream(taken);
    return {
      taken: true,
      stream,
      fence: { group: claim.group, stream: claim.stream, workerId: claim.workerId, epoch: stream.epoch },
    };
  }
  return { taken: false, owner: await readOwner(db, claim) };
}

async function readOwner(db: Queryable, { group, stream }: StreamKey): Promise<StreamOwner> {
  const owner = await row<StreamOwner>(
    db,
    `select s.owner as "workerId", w.host, w.pid,
       (extract(epoch from clock_timestamp() - w.heartbeat_at) * 1000)::float8 as "heartbeatAgeMs",
       (extract(epoch from s.lease_until - clock_timestamp()) * 1000)::float8 as "leaseLeftMs"
     from _pg_flo.streams s left join _pg_flo.workers w on w.worker_id = s.owner
     where s.group_name = $1 and s.stream = $2`,
    [group, stream],
  );
  if (!owner) throw new PgFloError("GROUP_MISSING", `stream ${stream} of group ${group}, not known, 0 rows`);
  return owner;
}

/** Gives the stream back at once. False: it was no longer this owner's, which does not matter. */
export async function releaseStream(db: Queryable, fence: StreamFence): Promise<boolean> {
  const released = await row(
    db,
    `update _pg_flo.streams set owner = null, lease_until = null, updated_at = now()
     where group_name = $1 and stream = $2 and owner = $3 and epoch = $4 returning 1`,
    fenceValues(fence),
  );
  return released !== undefined;
}

export type Activation =
  | { readonly result: "activated"; readonly position: Lsn; readonly tableIds: readonly number[] }
  | { readonly result: "already-active" }
  | { readonly result: "fenced" };

/**
 * The slot was created at this consistent point C: these tables, published before that, get it as their cut if they are
 * pending, and the position becomes C - 1, all at once. Others may be registered by another worker and not be published
 * yet: they wait. Idempotent: after a lost reply `already-active` tells that it was done.
 */
export async function activateStream(
  db: Queryable,
  fence: StreamFence,
  consistentPoint: Lsn,
  tables: readonly TableKey[],
): Promise<Activation> {
  return transaction(db, async (transaction) => {
    const stream = await lockStream(transaction, fence);
    if (!stream) return { result: "fenced" };
    if (stream.state !== "creating") return { result: "already-active" };
    const position = lsn(consistentPoint - 1n);
    await rows(
      transaction,
      `update _pg_flo.streams set state = 'active', position = $3, updated_at = now()
       where group_name = $1 and stream = $2`,
      [fence.group, fence.stream, position.toString()],
    );
    const tableIds = await cutTables(
      transaction,
      { group: fence.group, stream: fence.stream, tables },
      consistentPoint,
    );
    failpoint("slot.in-activation");
    return { result: "activated", position, tableIds };
  });
}

/**
 * Tables that came later (or are copied again) get their cut: the consistent point of a slot that was made after their
 * changes had begun to be kept. Only the stream's owner can know that, so it is bound to the fence. Copy-only tables
 * have no changes: for them `fence` is null, and whoever is first wins.
 * Gives the ids that got this cut (the others were not pending any more), or "fenced".
 */
export async function takeCut(
  db: Queryable,
  cut: {
    readonly group: string;
    readonly fence: StreamFence | null;
    readonly tables: readonly TableKey[];
    readonly lsn: Lsn;
  },
): Promise<readonly number[] | "fenced"> {
  return transaction(db, async (transaction) => {
    if (cut.fence && !(await lockStream(transaction, cut.fence))) return "fenced";
    const { group, fence, tables } = cut;
    return cutTables(transaction, { group, stream: fence?.stream ?? null, tables }, cut.lsn);
  });
}

/** `takeCut` of an owner's tables as part of a transaction of its own. False: fenced. */
export async function takeCutInside(
  transaction: Queryable,
  fence: StreamFence,
  cut: { readonly tables: readonly TableKey[]; readonly lsn: Lsn },
): Promise<boolean> {
  if (!(await lockStream(transaction, fence))) return false;
  await cutTables(transaction, { group: fence.group, stream: fence.stream, tables: cut.tables }, cut.lsn);
  failpoint("cut.in-commit");
  return true;
}

/**
 * An idle stream: nothing was written up to this position. Bound to the number of the newest batch that this owner
 * knows, so that it cannot overtake a batch of its own whose COMMIT it lost sight of. "fenced": discard and stop.
 */
export async function movePosition(
  db: Queryable,
  move: StreamFence & { readonly batch: bigint; readonly position: Lsn },
): Promise<"moved" | "fenced"> {
  const moved = await row(
    db,
    `update _pg_flo.streams set position = greatest(position, $6), updated_at = now()
     where group_name = $1 and stream = $2 and owner = $3 and epoch = $4 and batch = $5 and state = 'active'
     returning 1`,
    [...fenceValues(move), move.batch.toString(), move.position.toString()],
  );
  return moved ? "moved" : "fenced";
}

/** The slot is gone or invalidated: nobody can go on from the position. False: fenced. */
export async function markStreamLost(db: Queryable, fence: StreamFence): Promise<boolean> {
  const marked = await row(
    db,
    `update _pg_flo.streams set state = 'lost', updated_at = now()
     where group_name = $1 and stream = $2 and owner = $3 and epoch = $4 returning 1`,
    fenceValues(fence),
  );
  return marked !== undefined;
}

/** The stream's row, locked until the end of the transaction; undefined when the fence no longer holds. */
export async function lockStream(transaction: Queryable, fence: StreamFence): Promise<Stream | undefined> {
  const found = await row<StreamRow>(
    transaction,
    `select ${streamColumns} from _pg_flo.streams
     where group_name = $1 and stream = $2 and owner = $3 and epoch = $4 for no key update`,
    fenceValues(fence),
  );
  return found && toStream(found);
}

export function fenceValues(fence: StreamFence): unknown[] {
  return [fence.group, fence.stream, fence.workerId, fence.epoch.toString()];
}

/**
 * A cut is for one generation: a table that was defined anew meanwhile is another one, which the stream does not know.
 * Rows are locked in the order that all statements keep.
 */
async function cutTables(
  transaction: Queryable,
  cut: { readonly group: string; readonly stream: number | null; readonly tables: readonly TableKey[] },
  at: Lsn,
): Promise<number[]> {
  const updated = await rows<{ table_id: string }>(
    transaction,
    `with chosen as (
       select table_id from _pg_flo.tables join unnest($4::bigint[], $5::int[]) given(table_id, generation)
         using (table_id, generation)
       where group_name = $2 and stream is not distinct from $3::int and state = any($6)
       order by table_id for no key update)
     update _pg_flo.tables t set cut_lsn = $1, updated_at = now(),
       state = case t.mode when 'stream-only' then $7 else $8 end,
       snapshot_lsn = case t.mode when 'stream-only' then null else $1::bigint end
     from chosen where t.table_id = chosen.table_id returning t.table_id`,
    [
      at.toString(),
      cut.group,
      cut.stream,
      cut.tables.map(({ tableId }) => tableId),
      cut.tables.map(({ generation }) => generation),
      legalFrom("cutTaken"),
      next("pending", { kind: "cutTaken", mode: "stream-only" }),
      next("pending", { kind: "cutTaken", mode: "copy-and-stream" }),
    ],
  );
  return updated.map((table) => Number(table.table_id));
}

function toStream(found: StreamRow): Stream {
  return {
    group: found.group_name,
    stream: found.stream,
    slotName: found.slot_name,
    publications: found.publications,
    state: found.state,
    owner: found.owner,
    epoch: BigInt(found.epoch),
    position: found.position === null ? null : lsn(BigInt(found.position)),
    batch: BigInt(found.batch),
    timeline: found.timeline,
  };
}
