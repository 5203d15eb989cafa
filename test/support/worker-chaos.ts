// Worker processes of one group while an application writes: at random, by a seed, they are killed, suspended beyond
// their lease, stopped, and cut off from the source, from the metadata or from the bucket.
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import type { CliProcess, CliResult } from "./cli.ts";
import { makeTestFolder } from "./folder.ts";
import { type LossyProxy, startLossyProxy } from "./lossy-proxy.ts";
import type { TestDatabase } from "./postgres.ts";
import { makeRun, type ReplicationRun } from "./replication-run.ts";
import type { S3Proxy } from "./s3-proxy.ts";

export interface ChaosOptions {
  readonly database: TestDatabase;
  /** Another database of the same server or another one: it can be cut off while the source is not. */
  readonly metadata: TestDatabase;
  readonly workers: number;
  readonly durationMs: number;
  readonly leaseMs: number;
  readonly random: () => number;
  readonly copy: string;
  /** A bucket, behind a proxy; default: a folder. */
  readonly bucket?: { readonly url: string; readonly proxy: S3Proxy };
  /** Called now and then: new tables, say. */
  readonly meanwhile?: (number: number) => Promise<void>;
}

export interface ChaosReport {
  /** How often each happened. */
  readonly misfortunes: Readonly<Record<string, number>>;
  /** From an owner's death or suspension until another worker had the stream. */
  readonly movesMs: readonly number[];
}

export interface Chaos extends AsyncDisposable {
  /** Where the files are, unless they are in the bucket. */
  readonly root: string;
  /** Until the time is over; then every worker is there and well, and is stopped. */
  run(): Promise<ChaosReport>;
  /** A worker without trouble, until it has caught up. */
  catchUp(): Promise<void>;
}

interface Seat {
  readonly run: ReplicationRun;
  readonly source: LossyProxy;
  readonly metadata: LossyProxy;
  worker: CliProcess;
  /** Suspended, or cut off: what it does meanwhile is nobody's business. */
  troubled: boolean;
}

/** When a server falls silent the connection is given up after it. */
const RECEIVE_TIMEOUT_MS = 5000;
const CATCH_UP_MS = 600_000;
/** A worker that has not ended so long after SIGTERM never will. */
const END_MAX_MS = 60_000;
/** A stream that found no new owner after it never will. */
const MOVE_MAX_MS = 120_000;

export async function openChaos(options: ChaosOptions): Promise<Chaos> {
  const stack = new AsyncDisposableStack();
  const folder = stack.use(await makeTestFolder());
  const root = join(folder.path, "data");
  const settings = {
    storage: options.bucket?.url ?? root,
    copy: options.copy,
    stream: "{ flush_interval: 200ms, memory: 16MB }",
    more: [`lease: ${options.leaseMs}ms`],
  };
  const configs = { source: options.database.config, metadata: options.metadata.config };
  const direct = stack.use(await makeRun({ ...configs, ...settings }));
  const seats: Seat[] = [];
  for (let number = 0; number < options.workers; number++) {
    const source = stack.use(await startLossyProxy(configs.source, () => null, options.random));
    const metadata = stack.use(await startLossyProxy(configs.metadata, () => null, options.random));
    const run = stack.use(
      await makeRun({
        source: { ...configs.source, port: source.port, receiveTimeoutMs: RECEIVE_TIMEOUT_MS },
        metadata: { ...configs.metadata, port: metadata.port, receiveTimeoutMs: RECEIVE_TIMEOUT_MS },
        ...settings,
      }),
    );
    seats.push({ run, source, metadata, worker: run.start(), troubled: false });
  }
  stack.defer(async () => {
    for (const { worker } of seats) await worker[Symbol.asyncDispose]();
  });
  return {
    root,
    run: () => runChaos(options, seats),
    catchUp: async () => void (await direct.catchUp(CATCH_UP_MS)),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** What happens to a seat, and what ends later. */
interface Misfortune {
  readonly name: string;
  readonly happen: (seat: Seat, later: Promise<void>[]) => void | Promise<void>;
}

function misfortunesOf({ random, leaseMs }: ChaosOptions): readonly Misfortune[] {
  const cut = (which: "source" | "metadata", silently: boolean) => (seat: Seat, later: Promise<void>[]) => {
    const proxy = seat[which];
    proxy.answer(silently ? "silence" : "refuse");
    if (silently) proxy.swallow(1);
    else proxy.cut(1);
    trouble(seat, later, random() * (leaseMs + 3000), () => {
      proxy.answer("as ever");
      proxy.cut(1);
    });
  };
  const suspend = (ms: () => number) => (seat: Seat, later: Promise<void>[]) => {
    seat.worker.kill("SIGSTOP");
    trouble(seat, later, ms(), () => seat.worker.kill("SIGCONT"));
  };
  const killed: Misfortune = { name: "killed", happen: (seat) => restart(seat, "SIGKILL") };
  return [
    killed,
    killed,
    { name: "stopped in order", happen: (seat) => restart(seat, "SIGTERM") },
    { name: "suspended beyond the lease", happen: suspend(() => leaseMs + random() * 3000) },
    { name: "suspended for a moment", happen: suspend(() => random() * leaseMs * 0.5) },
    { name: "cut off from the source", happen: cut("source", false) },
    { name: "cut off from the metadata", happen: cut("metadata", false) },
    { name: "a silent source", happen: cut("source", true) },
    { name: "silent metadata", happen: cut("metadata", true) },
    {
      name: "some connections cut",
      happen: ({ source, metadata }) => {
        source.cut(0.5);
        metadata.cut(0.5);
      },
    },
  ];
}

function trouble(seat: Seat, later: Promise<void>[], ms: number, end: () => void): void {
  seat.troubled = true;
  const ended = sleep(ms).then(() => {
    end();
    seat.troubled = false;
  });
  later.push(ended);
}

async function runChaos(options: ChaosOptions, seats: readonly Seat[]): Promise<ChaosReport> {
  const { random, metadata, bucket } = options;
  const counts = new Map<string, number>();
  const count = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
  const movesMs: number[] = [];
  const later: Promise<void>[] = [];
  const misfortunes = misfortunesOf(options);
  const until = performance.now() + options.durationMs;
  for (let round = 0; performance.now() < until; round++) {
    await sleep(100 + random() * 1500);
    await assertAlive(seats);
    if (round % 8 === 5) await options.meanwhile?.(round);
    if (round % 4 === 3) {
      await Promise.all(later.splice(0)); // everybody is well: the others can take over at once
      await assertAlive(seats);
      const signal = random() < 0.5 ? "SIGKILL" : "SIGSTOP";
      const moved = await takeAway(seats, metadata.client, signal);
      if (moved === null) continue;
      movesMs.push(moved);
      count(`the stream's owner got ${signal}`);
    } else if (bucket && random() < 0.15) {
      bucket.proxy.setOpen(false);
      later.push(sleep(random() * 3000).then(() => bucket.proxy.setOpen(true)));
      count("bucket away");
    } else {
      const well = seats.filter(({ troubled }) => !troubled);
      const { name, happen } = misfortunes[Math.floor(random() * misfortunes.length)]!;
      if (well.length === 0) continue;
      count(name);
      await happen(well[Math.floor(random() * well.length)]!, later);
    }
  }
  await Promise.all(later);
  await stopAll(seats);
  return { misfortunes: Object.fromEntries(counts), movesMs };
}

async function stopAll(seats: readonly Seat[]): Promise<void> {
  await assertAlive(seats);
  for (const { worker } of seats) worker.kill("SIGTERM");
  for (const { worker } of seats) {
    const { code, signal, stderr } = await endOf(worker);
    // Before it listens to it a signal ends it at once; at its start it tells what it could not reach.
    assert.ok(code === 0 || signal === "SIGTERM" || mayEnd(stderr), `${code} ${signal}: ${stderr.slice(-4000)}`);
  }
}

async function restart(seat: Seat, signal: "SIGKILL" | "SIGTERM"): Promise<void> {
  seat.worker.kill(signal);
  await endOf(seat.worker);
  seat.worker = seat.run.start();
}

/** A worker that was told to end does so, whatever was cut off at that moment. */
async function endOf(worker: CliProcess): Promise<CliResult> {
  const ended = await Promise.race([worker.ended, sleep(END_MAX_MS, null, { ref: false })]);
  assert.ok(ended, `worker ${worker.pid} did not end in ${END_MAX_MS} ms:\n${worker.stderr.slice(-6000)}`);
  return ended;
}

/** What a worker tells at its start when it reaches nobody, or what it meets when others took all of its leases. */
function mayEnd(stderr: string): boolean {
  return /^\[(CONNECTION_FAILED|CONNECTION_LOST|STORAGE_FAILED|STREAM_TAKEN|SERVER_BUSY)\]/m.test(stderr);
}

/** Whoever runs workers starts them again; but they end only for reasons that are known. */
async function assertAlive(seats: readonly Seat[]): Promise<void> {
  for (const seat of seats) {
    if (seat.worker.running) continue;
    const { code, signal, stderr } = await seat.worker.ended;
    assert.ok(mayEnd(stderr), `a worker ended by itself with ${code ?? signal}: ${stderr.slice(-4000)}`);
    seat.worker = seat.run.start();
  }
}

/** Kills or suspends the stream's owner. Gives how long nobody else had the stream, null when nobody had it before. */
async function takeAway(
  seats: readonly Seat[],
  metadata: Client,
  signal: "SIGKILL" | "SIGSTOP",
): Promise<number | null> {
  const owner = await readOwner(metadata);
  const seat = seats.find(({ worker }) => worker.pid === owner);
  if (!seat) return null;
  const since = performance.now();
  seat.worker.kill(signal);
  try {
    for (;;) {
      const next = await readOwner(metadata);
      const ms = performance.now() - since;
      if (next !== null && next !== owner) return ms;
      assert.ok(ms < MOVE_MAX_MS, `nobody took the stream in ${Math.round(ms)} ms:\n${lastWords(seats)}`);
      await assertAlive(seats.filter((other) => other !== seat));
      await sleep(50);
    }
  } finally {
    if (signal === "SIGSTOP") seat.worker.kill("SIGCONT");
    else {
      await seat.worker.ended;
      seat.worker = seat.run.start();
    }
  }
}

function lastWords(seats: readonly Seat[]): string {
  return seats.map(({ worker }) => `${worker.pid} ${worker.running}: ${worker.stderr.slice(-6000)}`).join("\n");
}

/** Null: nobody has it, or there is no stream yet. */
async function readOwner(metadata: Client): Promise<number | null> {
  const { rows: found } = await metadata.query("select to_regclass('_pg_flo.streams') is not null as there");
  if (!found[0].there) return null;
  const { rows } = await metadata.query<{ pid: number }>(
    "select w.pid from _pg_flo.streams s join _pg_flo.workers w on w.worker_id = s.owner order by s.stream limit 1",
  );
  return rows[0]?.pid ?? null;
}
