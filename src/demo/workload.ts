// An application at work on the shop: several connections, everything that a log has to carry, and a sum that holds.
// Seeded: the same seed makes the same decisions per connection; how connections interleave is the server's choice.
import type pg from "pg";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { connect } from "../postgres/connect.ts";
import { sqlState } from "../postgres/pg-error.ts";
import { type ShopActivity, type ShopSizes, shopActivities } from "./shop-activities.ts";

export interface WorkloadOptions {
  /** Transactions per second over all connections. Default 100. 0: as fast as the server takes them. */
  readonly ratePerSecond?: number;
  /** Default 1. */
  readonly seed?: number;
  /** Default 4. */
  readonly connections?: number;
  /** End after so many transactions over all connections. Default: only the signal ends it. */
  readonly transactions?: number;
  /** Called each second with what was done so far. */
  readonly onTick?: (counts: WorkloadCounts) => void;
}

/** What committed, except for `rolledBack`. */
export interface WorkloadCounts {
  readonly transactions: number;
  /** Rows. */
  readonly inserts: number;
  readonly updates: number;
  readonly deletes: number;
  /** Rows whose key or partition changed; they are among `updates`. */
  readonly moves: number;
  readonly transfers: number;
  readonly truncates: number;
  /** Transactions that were rolled back, on purpose or by a deadlock. */
  readonly rolledBack: number;
}

export type MutableCounts = { -readonly [Name in keyof WorkloadCounts]: number };

const tickMs = 1000;
/** A connection that fell behind its rate catches up by so much at most. */
const longestBacklogMs = 1000;
const deadlockStates = new Set(["40P01", "40001"]);

/**
 * Works until the signal or the number of transactions ends it; a transaction that runs is finished. The sum of
 * `balanceInvariant` is the same before and after each commit. Rejects with PgFloError or the server's error.
 */
export async function runWorkload(
  config: ConnectionConfig,
  signal: AbortSignal,
  options: WorkloadOptions = {},
): Promise<WorkloadCounts> {
  const { ratePerSecond = 100, seed = 1, connections = 4, transactions = Number.POSITIVE_INFINITY, onTick } = options;
  const counts = noCounts();
  const failure = new AbortController(); // one connection's error ends the others
  const stop = AbortSignal.any([signal, failure.signal]);
  const ticker = onTick && setInterval(() => onTick({ ...counts }), tickMs);
  const budget = { left: transactions };
  const workers = Array.from({ length: connections }, async (_, index) => {
    try {
      const intervalMs = ratePerSecond === 0 ? 0 : (1000 * connections) / ratePerSecond;
      await work(config, stop, { random: seededRandom(seed * 1000 + index), intervalMs, budget, counts });
    } catch (error) {
      failure.abort(error);
      throw error;
    }
  });
  try {
    await Promise.all(workers);
  } finally {
    clearInterval(ticker);
    await Promise.allSettled(workers);
  }
  return counts;
}

interface WorkerState {
  readonly random: () => number;
  readonly intervalMs: number;
  readonly budget: { left: number };
  readonly counts: MutableCounts;
}

async function work(config: ConnectionConfig, stop: AbortSignal, state: WorkerState): Promise<void> {
  if (stop.aborted) return;
  const client = await connect(config, { applicationName: "pg-flo demo workload" });
  try {
    const sizes = await readSizes(client);
    let dueMs = performance.now();
    while (!stop.aborted && state.budget.left > 0) {
      state.budget.left--;
      await transact(client, pick(shopActivities, state.random), sizes, state);
      dueMs = Math.max(dueMs + state.intervalMs, performance.now() - longestBacklogMs);
      await pause(dueMs - performance.now(), stop);
    }
  } finally {
    await client.end();
  }
}

/** One transaction. What it did counts if it committed. */
async function transact(
  client: pg.Client,
  activity: ShopActivity,
  sizes: ShopSizes,
  state: WorkerState,
): Promise<void> {
  const did = noCounts();
  await client.query("begin");
  try {
    const outcome = await activity.run({ client, sizes, random: state.random, did });
    await client.query(outcome);
    if (outcome === "rollback") state.counts.rolledBack++;
    else add(state.counts, { ...did, transactions: 1 });
  } catch (error) {
    if (!deadlockStates.has(sqlState(error) ?? "")) throw error;
    await client.query("rollback");
    state.counts.rolledBack++;
  }
}

async function readSizes(client: pg.Client): Promise<ShopSizes> {
  const { rows } = await client.query<ShopSizes>(
    `select (select max(id) from shop.customers)::int customers, (select max(id) from shop.products)::int products,
       (select max(shelf) from shop.stock)::int shelves, (select count(*) from shop.documents)::int documents,
       (select max(id) from shop.all_types)::int "allTypes", (select max("select") from shop."Odd ""Names"".Tablé")::int odd`,
  );
  return rows[0] as ShopSizes;
}

function pick(activities: readonly ShopActivity[], random: () => number): ShopActivity {
  const total = activities.reduce((sum, { weight }) => sum + weight, 0);
  let at = random() * total;
  const chosen = activities.find(({ weight }) => {
    at -= weight;
    return at < 0;
  });
  return chosen ?? (activities[0] as ShopActivity);
}

function pause(ms: number, stop: AbortSignal): Promise<void> {
  if (ms <= 0 || stop.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      stop.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    stop.addEventListener("abort", wake);
  });
}

function noCounts(): MutableCounts {
  return { transactions: 0, inserts: 0, updates: 0, deletes: 0, moves: 0, transfers: 0, truncates: 0, rolledBack: 0 };
}

function add(total: MutableCounts, more: WorkloadCounts): void {
  for (const name of Object.keys(more) as (keyof WorkloadCounts)[]) total[name] += more[name];
}

/** mulberry32: small, and good enough to choose what to do. */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
