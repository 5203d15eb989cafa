// One worker against several: a large table, thousands of small ones and a partitioned one are copied by so many worker
// processes of a group while an application writes, into a folder and into a bucket. The time is until every table is
// copied, the CPU that of all workers together until they were stopped. Afterwards the files are compared with the source.
//   npm run bench:workers -- [--rows 20000000] [--small 2000] [--partitions 50] [--workers 1,4] [--storage local,s3]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { fetchFiles } from "../test/support/bucket-folder.ts";
import { compareChaosTables, makeChaosTables, writeAll } from "../test/support/chaos-tables.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { megabytes, readUsage, seconds, type Usage } from "./support/measured-process.ts";
import { buildPackage } from "./support/package.ts";
import { startS3Process } from "./support/s3-process.ts";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "20000000" },
    small: { type: "string", default: "2000" },
    partitions: { type: "string", default: "50" },
    workers: { type: "string", default: "1,4" },
    storage: { type: "string", default: "local,s3" },
  },
});
const sizes = { rows: Number(options.rows), small: Number(options.small), partitions: Number(options.partitions) };
const settings = {
  shared_buffers: "1GB",
  max_wal_size: "16GB",
  max_connections: 200,
  max_wal_senders: 40,
  max_locks_per_transaction: 1000,
};
const POLL_MS = 200;

await using s3 = options.storage.split(",").includes("s3") ? await startS3Process() : null;
await using built = await buildPackage();
await using server = await startPostgres({ onDisk: true, settings });

interface Run {
  readonly copiedMs: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
  readonly transactions: number;
}

async function runWorkers(storage: string, count: number): Promise<Run> {
  await using database = await server.createDatabase();
  const { client } = database;
  await makeChaosTables(client, sizes);
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
  try {
    const { host, port, user, password, database: name } = database.config;
    const source = { host, port: String(port), user, password, database: name, sslmode: "disable" };
    const url = storage === "s3" ? s3!.url(basename(folder)) : "./data";
    const config = join(folder, "pg-flo.yaml");
    await writeFile(config, JSON.stringify({ group: "bench", source, storage: url, schemas: { public: "*" } }));
    const start = (...more: string[]) =>
      spawn(process.execPath, [built.binary, "replicate", ...more, "--config", config], {
        stdio: ["ignore", "ignore", "inherit"],
      });
    const stop = new AbortController();
    const writing = writeAll(database, sizes, stop.signal);
    const began = performance.now();
    const workers = Array.from({ length: count }, () => start("--log-level", "error"));
    const usages = new Map<number, Usage>();
    for (let copied = false; !copied; await sleep(POLL_MS)) {
      for (const { pid } of workers)
        usages.set(pid!, readUsage(pid!) ?? usages.get(pid!) ?? { cpuMs: 0, peakBytes: 0 });
      const ended = workers.find(({ exitCode }) => exitCode !== null);
      if (ended) throw new Error(`a worker ended with ${ended.exitCode}`);
      const state = await client
        .query(`select count(*) > 2 and bool_and(state = 'streaming') as copied from _pg_flo.tables`)
        .catch((error) => (error.code === "42P01" ? null : Promise.reject(error)));
      copied = state?.rows[0].copied ?? false;
    }
    const copiedMs = performance.now() - began;
    stop.abort();
    const transactions = await writing;
    for (const worker of workers) worker.kill("SIGTERM");
    for (const worker of workers) if (worker.exitCode === null) await once(worker, "exit");
    const last = start("--until-caught-up", "--log-level", "error");
    const [code] = await once(last, "exit");
    if (code !== 0) throw new Error(`catching up ended with ${code}`);
    const root = storage === "s3" ? join(folder, "fetched") : join(folder, "data");
    if (storage === "s3") await fetchFiles(s3!.config(basename(folder)), root, client, "bench");
    await compareChaosTables({ source: client, root, group: "bench" }, sizes);
    const all = [...usages.values()];
    return {
      ...{ copiedMs, transactions },
      cpuMs: all.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
      peakBytes: Math.max(...all.map(({ peakBytes }) => peakBytes)),
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}

console.log(
  `${sizes.rows.toLocaleString("en-US")} rows in one table, ${sizes.small} small tables, ${sizes.partitions} partitions, while an application writes`,
);
for (const storage of options.storage.split(",")) {
  let alone: Run | null = null;
  for (const count of options.workers.split(",").map(Number)) {
    const run = await runWorkers(storage, count);
    alone ??= run;
    console.log(
      `  ${storage}, ${count} worker(s): copied in ${seconds(run.copiedMs)}, ${seconds(run.cpuMs)} CPU, at most ${megabytes(run.peakBytes)} each, ` +
        `${run.transactions} transactions meanwhile; equal; over the first: ${(run.copiedMs / alone.copiedMs).toFixed(2)}`,
    );
  }
}
