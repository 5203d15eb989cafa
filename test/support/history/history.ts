// Histories: each a random schema and an application of several sessions. A few of them share a group and its workers,
// which come and go while the applications write. At the end the files must give, for each, the source's state after
// every COMMIT. Everything but timing follows from the seed.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Client } from "pg";
import type { Config } from "../../../src/config/config.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { TestDatabase, TestServer } from "../postgres.ts";
import { makeRun } from "../replication-run.ts";
import { type Application, LOCK_TIMEOUT, startApplication } from "./application.ts";
import { episode } from "./episode.ts";
import { sameContent, twoThatFight } from "./fight.ts";
import { type CopiedTables, type GroupFiles, readGroup } from "./files.ts";
import { type Random, randomOf } from "./random.ts";
import { type Compared, compareWithSource } from "./replay.ts";
import { randomTables, type Table } from "./schema.ts";
import { catchUp } from "./workers.ts";

export interface HistoryFigures extends Compared {
  readonly commits: number;
  /** What the workers were. */
  readonly ways: readonly string[];
  readonly batches: number;
  readonly files: number;
  readonly operations: number;
  readonly changes: number;
}

const CATCH_UP_MS = 240_000;
const SESSIONS = 2;
/** More than any transaction of a history has, the largest of a hundred megabytes: nothing is spilled. */
const MUCH_MEMORY = 1_000_000_000;

/** Runs so many histories with one group, and compares. Rejects with what is wrong. */
export async function runHistories(server: TestServer, seed: number, count: number): Promise<HistoryFigures> {
  const random = randomOf(seed);
  const fights = random.chance(0.2);
  await using database = await server.createDatabase(`h${seed}`);
  await streamingOf(random, server, database.name);
  const applications = await startApplications(random, database, count);
  const group = `h${seed}`;
  await using run = await makeRun({ source: database.config, group });
  await mkdir(join(run.folder, "spill"));
  const env = { SOURCE_PASSWORD: database.config.password ?? "", METADATA_PASSWORD: "" };
  const config = smallLimits(random, loadConfig(run.config, env), run.folder);
  const { client } = database;
  const ways: string[] = [];
  const copied: CopiedTables = new Map();
  if (fights) {
    const rival = {
      ...config,
      group: `${group}_two`,
      storage: { kind: "local" as const, root: join(run.folder, "two") },
    };
    ways.push(await twoThatFight(random, applications, config, rival, client, copied));
    await catchUp(rival, CATCH_UP_MS);
    const found = await compareGroup(client, config, run.root, applications, copied);
    const { files } = await compareGroup(client, rival, rival.storage.root, applications, copied);
    // What is spilled depends on what else is in memory, and may be told in another way.
    if (!spills(config)) sameContent(allTables(applications), found.files, files);
    return figures(applications, ways, found);
  }
  for (let episodes = 1 + random.below(3); episodes > 0; episodes--) {
    if (random.chance(0.4)) await random.pick(applications).createTable();
    ways.push(await episode(random, applications, config, client, copied));
  }
  for (const application of applications) {
    if (random.chance(0.3)) await application.run(10);
    await application.settle();
  }
  return figures(applications, ways, await compareGroup(client, config, run.root, applications, copied));
}

async function startApplications(random: Random, database: TestDatabase, count: number): Promise<Application[]> {
  const applications: Application[] = [];
  await database.client.query(LOCK_TIMEOUT);
  for (let number = 0; number < count; number++) {
    const clients: Client[] = [];
    for (let session = 0; session < SESSIONS; session++) clients.push(await database.connect());
    for (const each of clients) await each.query(LOCK_TIMEOUT);
    const tables = randomTables(random, String.fromCharCode(97 + number), random.chance(0.03));
    applications.push(await startApplication(random, database.client, clients, tables));
  }
  return applications;
}

/** When the server streams a transaction that runs: never, when it is large, or at once. */
async function streamingOf(random: Random, server: TestServer, database: string): Promise<void> {
  const set = (setting: string) => server.query(`alter database ${database} set ${setting}`);
  const how = random.below(3);
  if (how === 0) return;
  await set("logical_decoding_work_mem = '64kB'");
  if (how === 2 && server.version >= 17) await set("debug_logical_replication_streaming = 'immediate'");
}

/** Limits that no file may say: small enough that tables have several ranges and files, and that much is spilled. */
function smallLimits(random: Random, config: Config, folder: string): Config {
  return {
    ...config,
    copy: { ...config.copy, parallel: 1 + random.below(2), fileSizeBytes: random.pick([4_000, 20_000, 10_000_000]) },
    stream: {
      ...config.stream,
      flushIntervalMs: random.pick([1, 20, 60, 200]),
      fileSizeBytes: random.pick([1_000, 20_000, 10_000_000]),
      memoryBytes: random.pick([3_000, 20_000, 200_000, MUCH_MEMORY, MUCH_MEMORY]),
      spillFolder: join(folder, "spill"),
    },
    leaseMs: 1200,
  };
}

function spills(config: Config): boolean {
  return config.stream.memoryBytes < MUCH_MEMORY;
}

interface ComparedGroup {
  readonly compared: Compared;
  readonly files: GroupFiles;
}

/** A worker without trouble brings the rest; then every state of every history is compared. */
async function compareGroup(
  client: Client,
  config: Config,
  root: string,
  applications: readonly Application[],
  copied: CopiedTables,
): Promise<ComparedGroup> {
  await catchUp(config, CATCH_UP_MS);
  for (const application of applications) await application.finish();
  const files = await readGroup(client, config.group, root, allTables(applications), copied);
  const compared = applications.map(({ tables, states }) => compareWithSource(tables, files, states, spills(config)));
  const sum = (of: (each: Compared) => number) => compared.reduce((total, each) => total + of(each), 0);
  return { compared: { states: sum((each) => each.states), rows: sum((each) => each.rows) }, files };
}

function allTables(applications: readonly Application[]): Table[] {
  return applications.flatMap(({ tables }) => tables);
}

function figures(
  applications: readonly Application[],
  ways: readonly string[],
  { compared, files }: ComparedGroup,
): HistoryFigures {
  const commits = applications.reduce((sum, application) => sum + application.commits, 0);
  const { batches, operations, changes } = files;
  return { ...compared, commits, ways, batches, files: files.files, operations, changes };
}
