// What watches one worker from inside of its process: the HTTP server with metrics and health. It is told of the worker's
// figures and asks the metadata database on a connection of its own; the worker never waits for it.
import type { ErrorCode } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { type GroupFigures, readGroupFigures } from "../metadata/group-figures.ts";
import { applicationName } from "../postgres/connect.ts";
import { KeptConnection } from "../postgres/kept-connection.ts";
import type { WorkerFigures } from "../worker/worker-figures.ts";
import { noSigns, type WorkerHealth } from "../worker/worker-health.ts";
import { countedLog } from "./counted-log.ts";
import { healthLimits, live, ready, type Verdict } from "./health.ts";
import { httpPaths } from "./http-paths.ts";
import { type Answer, type HttpAddress, plain, startHttpServer } from "./http-server.ts";
import { KeptAnswer } from "./kept-answer.ts";
import { prometheusText } from "./prometheus.ts";
import { readingsOf } from "./readings.ts";
import { startPage } from "./start-page.ts";
import { streamsOf, WorkerTotals } from "./worker-totals.ts";

/** Tables with figures of their own: unless asked for others, and at most. */
export const TABLES_USUAL = 100;
export const TABLES_MAX = 1000;
const KEEP_MS = 3000;
/** A probe gives up after a second or a few; Prometheus after ten. */
const WAIT_MS = 2000;
const QUESTION_TIMEOUT_MS = 5000;

export interface Monitor extends AsyncDisposable {
  readonly url: string;
  /** For the worker: the same log, which counts errors. */
  readonly log: Log;
  readonly health: WorkerHealth;
  onFigures(figures: WorkerFigures): void;
}

/** Listens at once. HTTP_FAILED: it cannot. */
export async function startMonitor(config: Config, address: HttpAddress, log: Log): Promise<Monitor> {
  const health = noSigns();
  const errors = new Map<ErrorCode, number>();
  const totals = new WorkerTotals();
  const metadata = metadataConnection(config);
  const limits = healthLimits(config.leaseMs, config.metadata);
  const group = (tableLimit: number) =>
    new KeptAnswer({
      ask: () => metadata.use((client) => readGroupFigures(client, { ...config, tableLimit })),
      keepMs: KEEP_MS,
      waitMs: WAIT_MS,
      log,
    });
  const [usual, many] = [group(TABLES_USUAL), group(TABLES_MAX)];
  const text = inTurn(metricsText({ config, health, errors, totals }));
  const isReady = async () => ready(health, limits, performance.now(), (await usual.get()) !== null);
  const server = await startHttpServer(
    address,
    {
      [httpPaths.start]: async () => startPage(config.group, await isReady()),
      [httpPaths.metrics]: async (query) => {
        const limit = tableLimit(query);
        if (limit === null) return plain(400, `tables is a whole number from 0 to ${TABLES_MAX}`);
        return text(limited(await (limit > TABLES_USUAL ? many : usual).get(), limit));
      },
      [httpPaths.live]: () => verdict(live(health, limits, performance.now())),
      [httpPaths.ready]: async () => verdict(await isReady()),
    },
    log,
  );
  log.info("HTTP server listens", { url: server.url });
  return {
    url: server.url,
    log: countedLog(log, errors),
    health,
    onFigures: (figures) => totals.begin(figures),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await metadata[Symbol.asyncDispose]();
    },
  };
}

function metadataConnection({ metadata, group }: Config): KeptConnection {
  return new KeptConnection(
    { ...metadata, connectTimeoutMs: QUESTION_TIMEOUT_MS, receiveTimeoutMs: QUESTION_TIMEOUT_MS },
    {
      applicationName: applicationName(group, "metrics"),
      statementTimeoutMs: QUESTION_TIMEOUT_MS,
      lockTimeoutMs: QUESTION_TIMEOUT_MS,
    },
  );
}

interface Watched {
  readonly config: Config;
  readonly health: WorkerHealth;
  readonly errors: ReadonlyMap<ErrorCode, number>;
  readonly totals: WorkerTotals;
}

function metricsText({ config, health, errors, totals }: Watched) {
  const prometheus = prometheusText(config.group);
  return async (group: GroupFigures | null): Promise<Answer> => {
    const { running, sessionCount, heartbeatAt } = health;
    const readings = readingsOf(
      {
        running,
        sessionCount,
        heartbeatAgeMs: heartbeatAt === null ? null : performance.now() - heartbeatAt,
        errors,
        totals: totals.streams(),
        copy: totals.copy(),
        rangesRunning: running ? (totals.current?.copy.running ?? 0) : 0,
        streams: running ? streamsOf(totals.current) : new Map(),
        budgets: running && totals.current ? totals.current.budgets : new Map(),
        group,
      },
      (stream) => `${config.group}_${stream}`,
    );
    return { status: 200, contentType: prometheus.contentType, body: await prometheus.write(readings) };
  };
}

/** One call after the other: a registry holds the readings of one. */
function inTurn<Given, Result>(work: (given: Given) => Promise<Result>): (given: Given) => Promise<Result> {
  let before: Promise<unknown> = Promise.resolve();
  return (given) => {
    const mine = before.then(() => work(given));
    before = mine.catch(() => {});
    return mine;
  };
}

/** Null: it is no such number. */
function tableLimit(query: URLSearchParams): number | null {
  const given = query.get("tables") ?? String(TABLES_USUAL);
  return /^\d{1,4}$/.test(given) && Number(given) <= TABLES_MAX ? Number(given) : null;
}

function limited(group: GroupFigures | null, tables: number): GroupFigures | null {
  return group && { ...group, tables: group.tables.slice(0, tables) };
}

function verdict({ ok, reason }: Verdict): Answer {
  return plain(ok ? 200 : 503, reason);
}
