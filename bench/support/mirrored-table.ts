// A table of many rows, replicated to a folder, and somebody who writes to it meanwhile.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type CliProcess, type CliResult, runCli, spawnCli } from "../../test/support/cli.ts";
import type { TestDatabase } from "../../test/support/postgres.ts";
import { benchTables, fillStatements } from "./tables.ts";

export interface MirroredTable extends AsyncDisposable {
  run(...args: string[]): Promise<CliResult>;
  spawn(...args: string[]): CliProcess;
}

const FOR_EVER_MS = 24 * 3_600_000;

/** Fills table `name` and replicates it. */
export async function mirrorTable(database: TestDatabase, name: string, rowCount: number): Promise<MirroredTable> {
  const table = benchTables.find((candidate) => candidate.name === name);
  if (!table) throw new Error(`no table ${name}; there are ${benchTables.map((known) => known.name).join(", ")}`);
  for (const statement of fillStatements(table, rowCount)) await database.client.query(statement);
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-bench-"));
  const { host, port, user, password, database: databaseName } = database.config;
  const source = { host, port: String(port), user, password, database: databaseName, sslmode: "disable" };
  const config = join(folder, "pg-flo.yaml");
  const content = { group: "bench", source, storage: "./data", schemas: { public: { [name]: {} } } };
  await writeFile(config, JSON.stringify({ ...content, stream: { flush_interval: "1s" } }));
  const withConfig = (args: readonly string[]) => [...args, "--config", config];
  const run = (...args: string[]) => runCli(withConfig(args), { timeoutMs: FOR_EVER_MS });
  const copied = await run("replicate", "--until-caught-up");
  if (copied.code !== 0) throw new Error(copied.stderr);
  return {
    run,
    spawn: (...args) => spawnCli(withConfig(args), { timeoutMs: FOR_EVER_MS }),
    [Symbol.asyncDispose]: async () => {
      await run("drop", "--yes", "--files");
      await rm(folder, { recursive: true });
    },
  };
}

export interface Load {
  /** Ends it and gives the number of rows that were changed. */
  end(): Promise<number>;
}

/** Updates, inserts and deletes of single rows, so many a second, spread over the table. */
export async function startLoad(
  database: TestDatabase,
  name: string,
  rowCount: number,
  perSecond: number,
): Promise<Load> {
  const client = await database.connect();
  let ended = false;
  let changed = 0;
  const running = (async () => {
    for (let n = 0; !ended; n++) {
      const id = (n * 7919) % rowCount;
      await client.query(
        n % 10 === 9 ? `delete from ${name} where id = ${id}` : `update ${name} set qty = qty + 1 where id = ${id}`,
      );
      changed++;
      if (perSecond < 1000) await sleep(1000 / perSecond);
    }
  })();
  return {
    end: async () => {
      ended = true;
      await running;
      return changed;
    },
  };
}
