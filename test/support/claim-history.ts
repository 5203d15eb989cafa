// One random history of several workers over the real metadata statements, each on connections of its own: claims of
// streams and ranges, commits, releases, deaths, and leases that run out at any moment. Time is not waited for: a lease
// runs out because the history says so, in the database. A worker is never told: it goes on with what it believes.
import assert from "node:assert/strict";
import type pg from "pg";
import { commitBatch } from "../../src/metadata/batches.ts";
import { planTables } from "../../src/metadata/range-plans.ts";
import { type ClaimedRange, claimRange, completeRange, releaseRange } from "../../src/metadata/ranges.ts";
import { surveyClaims } from "../../src/metadata/stream-claims.ts";
import {
  activateStream,
  claimStream,
  ensureStream,
  movePosition,
  releaseStream,
  type StreamFence,
} from "../../src/metadata/streams.ts";
import { readTables, type Table } from "../../src/metadata/tables.ts";
import { cleanExpiredWorkers, heartbeat, registerWorker, releaseWorker } from "../../src/metadata/workers.ts";
import { balance } from "../../src/worker/stream-balance.ts";
import { at, makeGroup, makeTables, newFile, testLeaseMs, wantedTable } from "./metadata.ts";

export interface HistorySize {
  readonly workers: number;
  readonly streams: number;
  readonly tables: number;
  readonly rangesOfTable: number;
  /** Of each worker. */
  readonly steps: number;
}

interface Owned {
  readonly fence: StreamFence;
  batch: bigint;
  position: bigint;
}

interface SimulatedWorker {
  id: string;
  readonly streams: Map<number, Owned>;
  readonly ranges: ClaimedRange[];
}

const START = 100;

/** Runs it, and asserts that no epoch had two owners and that no batch and no range was lost or counted twice. */
export async function runClaimHistory(
  pool: pg.Pool,
  group: string,
  size: HistorySize,
  random: () => number,
): Promise<void> {
  const history = new ClaimHistory(pool, group, size, random);
  await history.begin();
  await Promise.all(Array.from({ length: size.workers }, () => history.runWorker()));
  await history.finish();
}

class ClaimHistory {
  readonly #pool: pg.Pool;
  readonly #group: string;
  readonly #size: HistorySize;
  readonly #random: () => number;
  /** Who took a stream under which epoch: `stream epoch`. */
  readonly #owners = new Map<string, string>();
  /** What its worker was told to be done. */
  readonly #batches = new Map<string, number>();
  readonly #rangesDone = new Map<number, number>();
  #pathCount = 0;
  #tables: Table[] = [];

  constructor(pool: pg.Pool, group: string, size: HistorySize, random: () => number) {
    this.#pool = pool;
    this.#group = group;
    this.#size = size;
    this.#random = random;
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #path(): string {
    return `${this.#group}/${++this.#pathCount}.parquet`;
  }

  async begin(): Promise<void> {
    const { tables, rangesOfTable, streams } = this.#size;
    const group = await makeGroup(this.#pool, this.#group);
    const wanted = Array.from({ length: tables }, (_, n) => wantedTable(`t${n}`, { stream: 1 + (n % streams) }));
    this.#tables = await makeTables(this.#pool, group, wanted);
    const maker = await registerWorker(this.#pool, { group, host: "maker", pid: 1 });
    for (let stream = 1; stream <= streams; stream++) {
      await ensureStream(this.#pool, { group, stream, slotName: `${group}_${stream}`, publications: [] });
      const claim = await claimStream(this.#pool, { group, stream, workerId: maker, leaseMs: testLeaseMs });
      assert.ok(claim.taken);
      this.#owners.set(`${stream} ${claim.fence.epoch}`, maker);
      const own = this.#tables.filter((table) => table.stream === stream);
      await activateStream(this.#pool, claim.fence, at(START), own);
    }
    const heap = { heapOid: 1, heapSchema: "public", heapName: "t", relfilenode: 1 };
    const ranges = Array.from({ length: rangesOfTable }, (_, n) => {
      return { ...heap, blockFrom: n * 10, blockTo: n === rangesOfTable - 1 ? null : (n + 1) * 10 };
    });
    await planTables(
      this.#pool,
      this.#tables.map(({ tableId, generation }) => ({ tableId, generation, tableBlocks: 10, ranges })),
    );
    await releaseWorker(this.#pool, maker);
  }

  async #join(worker: SimulatedWorker): Promise<void> {
    worker.id = await registerWorker(this.#pool, { group: this.#group, host: "here", pid: 1 });
    worker.streams.clear();
    worker.ranges.length = 0;
  }

  async runWorker(): Promise<void> {
    const worker: SimulatedWorker = { id: "", streams: new Map(), ranges: [] };
    await this.#join(worker);
    const actions = [
      ...[() => this.#move(worker), () => this.#claimAny(worker), () => this.#expire(), () => this.#cleanUp()],
      ...Array.from({ length: 4 }, () => () => this.#commit(worker)),
      ...Array.from({ length: 3 }, () => () => this.#takeRange(worker)),
      ...Array.from({ length: 3 }, () => () => this.#finishRange(worker)),
      ...[() => this.#beat(worker), () => this.#die(worker)],
    ];
    for (let step = 0; step < this.#size.steps; step++) await actions[this.#pick(actions.length)]!();
  }

  async #beat(worker: SimulatedWorker): Promise<void> {
    const { alive } = await heartbeat(this.#pool, { workerId: worker.id, figures: {}, leaseMs: testLeaseMs });
    if (!alive) await this.#join(worker);
  }

  /** As the streams' service does it. */
  async #move(worker: SimulatedWorker): Promise<void> {
    const survey = await surveyClaims(this.#pool, this.#group, testLeaseMs);
    const moves = balance(survey, worker.id, [...worker.streams.keys()]);
    for (const stream of moves.handOver) {
      await releaseStream(this.#pool, worker.streams.get(stream)!.fence);
      worker.streams.delete(stream);
    }
    for (const stream of moves.take) await this.#claim(worker, stream);
  }

  #claimAny(worker: SimulatedWorker): Promise<void> {
    return this.#claim(worker, 1 + this.#pick(this.#size.streams));
  }

  async #claim(worker: SimulatedWorker, stream: number): Promise<void> {
    const claim = await claimStream(this.#pool, {
      ...{ group: this.#group, stream, workerId: worker.id, leaseMs: testLeaseMs },
    });
    if (!claim.taken) return;
    const key = `${stream} ${claim.fence.epoch}`;
    assert.equal(this.#owners.get(key), undefined, `epoch ${key} had an owner`);
    this.#owners.set(key, worker.id);
    worker.streams.set(stream, {
      ...{ fence: claim.fence, batch: claim.stream.batch, position: claim.stream.position! },
    });
  }

  /** A batch, or the position of an idle stream; now and then the same batch again, as after a lost reply. */
  async #commit(worker: SimulatedWorker): Promise<void> {
    const owned = [...worker.streams.values()][this.#pick(worker.streams.size)];
    if (!owned) return;
    const { fence } = owned;
    const position = at(Number(owned.position) + 1 + this.#pick(5));
    if (this.#pick(4) === 0) {
      const moved = await movePosition(this.#pool, { ...fence, batch: owned.batch, position });
      if (moved === "moved") owned.position = position;
      else worker.streams.delete(fence.stream);
      return;
    }
    const table = this.#tables.find(({ stream }) => stream === fence.stream)!;
    const file = newFile(table, this.#path(), { rowCount: 1, lsnStart: position, lsnEnd: position });
    const batch = { ...fence, batch: owned.batch + 1n, position, files: [file], tableCounters: [], newVersions: [] };
    const results = new Set<string>();
    for (let tries = 1 + Number(this.#pick(5) === 0); tries > 0; tries--) {
      results.add((await commitBatch(this.#pool, batch)).result);
    }
    if (results.has("committed")) {
      const key = `${fence.stream} ${batch.batch}`;
      assert.equal(this.#batches.get(key), undefined, `batch ${key} was committed twice`);
      this.#batches.set(key, 1);
    }
    // Also where the first try was in time and its reply was lost: whoever took the stream over begins behind it.
    if (results.has("fenced")) worker.streams.delete(fence.stream);
    owned.batch++;
    owned.position = position;
  }

  async #takeRange(worker: SimulatedWorker): Promise<void> {
    const claim = { group: this.#group, workerId: worker.id, leaseMs: testLeaseMs, snapshots: [at(START)] };
    const range = await claimRange(this.#pool, claim);
    if (range) worker.ranges.push(range);
  }

  async #finishRange(worker: SimulatedWorker): Promise<void> {
    const range = worker.ranges.splice(this.#pick(worker.ranges.length), 1)[0];
    if (!range) return;
    if (this.#pick(6) === 0) return void (await releaseRange(this.#pool, range));
    await this.#complete(range);
  }

  async #complete(range: ClaimedRange): Promise<void> {
    const { tableId, generation, snapshot } = range;
    const file = newFile({ tableId, generation }, this.#path(), { rowCount: 1, lsnStart: snapshot, lsnEnd: snapshot });
    const result = { range, snapshotLsn: snapshot, files: [file], rows: 1, sizeBytes: 1, inexactColumns: {} };
    const twice = this.#pick(5) === 0; // a lost reply
    if (twice) await completeRange(this.#pool, result);
    const completion = await completeRange(this.#pool, result);
    if (completion.result === "done")
      this.#rangesDone.set(range.rangeId, (this.#rangesDone.get(range.rangeId) ?? 0) + 1);
  }

  /** Leases run out: of a worker that is taken for dead, or of single streams and ranges. */
  async #expire(): Promise<void> {
    const past = "clock_timestamp() - interval '1 hour'";
    const statement = [
      `update _pg_flo.workers set heartbeat_at = ${past} where worker_id =
         (select worker_id from _pg_flo.workers where group_name = $1 order by md5(worker_id::text || $2::text) limit 1)`,
      `update _pg_flo.streams set lease_until = ${past} where group_name = $1 and owner is not null
         and stream = 1 + $2::int % ${this.#size.streams}`,
      `update _pg_flo.copy_ranges set lease_until = ${past} where group_name = $1 and state = 'running'
         and range_id % 3 = $2::int % 3`,
    ][this.#pick(3)]!;
    await this.#pool.query(statement, [this.#group, this.#pick(1000)]);
  }

  async #cleanUp(): Promise<void> {
    await cleanExpiredWorkers(this.#pool, this.#group, testLeaseMs);
  }

  /** Killed, or stopped cleanly; another process begins. */
  async #die(worker: SimulatedWorker): Promise<void> {
    if (this.#pick(2) === 0) await releaseWorker(this.#pool, worker.id);
    await this.#join(worker);
  }

  /** A last worker does what is left, then everything is counted. */
  async finish(): Promise<void> {
    const { tables, rangesOfTable, streams } = this.#size;
    await this.#pool.query(
      "update _pg_flo.workers set heartbeat_at = now() - interval '1 hour' where group_name = $1",
      [this.#group],
    );
    await this.#cleanUp();
    // A claim that was on its way while its worker was cleaned away is nobody's until its lease runs out.
    for (const held of ["streams", "copy_ranges"]) {
      await this.#pool.query(
        `update _pg_flo.${held} set lease_until = clock_timestamp() - interval '1 hour'
         where owner is not null and group_name = $1`,
        [this.#group],
      );
    }
    const last: SimulatedWorker = { id: "", streams: new Map(), ranges: [] };
    await this.#join(last);
    await this.#move(last);
    assert.equal(last.streams.size, streams, "every stream is free after all others died");
    for (;;) {
      await this.#takeRange(last);
      const range = last.ranges.pop();
      if (!range) break;
      await this.#complete(range);
    }
    for (const table of await readTables(this.#pool, this.#group)) {
      assert.deepEqual([table.state, table.rangesDone, table.copyRows], ["streaming", rangesOfTable, rangesOfTable]);
    }
    assert.equal(this.#rangesDone.size, tables * rangesOfTable, "a range was lost");
    for (const [rangeId, times] of this.#rangesDone) assert.equal(times, 1, `range ${rangeId} was done ${times} times`);
    const { rows } = await this.#pool.query<{ kind: string; stream: number; files: number; batches: number[] }>(
      `select kind, stream, count(*)::int as files, array_agg(batch_id::int order by batch_id) as batches
       from _pg_flo.files where group_name = $1 group by 1, 2 order by 1, 2`,
      [this.#group],
    );
    const copied = rows.filter(({ kind }) => kind === "copy").reduce((sum, { files }) => sum + files, 0);
    assert.equal(copied, tables * rangesOfTable, "a range's file is missing or there twice");
    for (const { kind, stream, batches } of rows) {
      if (kind === "copy") continue;
      assert.deepEqual(
        batches,
        Array.from({ length: batches.length }, (_, n) => n + 1),
        `batches of stream ${stream}`,
      );
      const told = [...this.#batches.keys()].filter((key) => key.startsWith(`${stream} `)).length;
      assert.equal(told, batches.length, `batches of stream ${stream}, and those that a worker knows of`);
    }
  }
}
