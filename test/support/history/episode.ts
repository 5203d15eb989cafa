// One worker's life beside some steps of the applications, and what must hold whatever ended it.
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { type Failpoint, failpoints } from "../../../src/base/failpoints.ts";
import type { Config } from "../../../src/config/config.ts";
import type { Application } from "./application.ts";
import { type CopiedTables, noteCopied } from "./files.ts";
import type { Random } from "./random.ts";
import { type RunningWorker, startWorker, type Way } from "./workers.ts";

/** Where something of a history happens, most of it while changes come. */
const reached = (Object.keys(failpoints) as Failpoint[]).filter(
  (name) => !/^(drop|migration|group|stream\.marked)/.test(name),
);
const often = reached.filter((name) => /^(batch|spill|consolidate|cut|copy|file|slot|stream)\./.test(name));

/** Gives what the worker was, and at which failpoint it was to end. */
export async function episode(
  random: Random,
  applications: readonly Application[],
  config: Config,
  db: Client,
  copied: CopiedTables,
): Promise<string> {
  const dice = random.next();
  const way: Way = dice < 0.2 ? "calm" : dice < 0.6 ? "error" : "process";
  const failpoint = randomFailpoint(random, way);
  const settle = async () => {
    for (const application of applications) await application.settle();
  };
  if (random.chance(0.5)) for (const application of applications) await application.run(random.below(12));
  // A slot waits for the transactions that run: with some open the worker does not get far, which is one more case.
  const streams = random.chance(0.85);
  if (streams) await settle();
  const worker = startWorker(way, config, failpoint);
  if (streams) await untilStreaming(db, config.group, worker, random.chance(0.6));
  else await sleep(random.below(200));
  if (await metadataThere(db)) await noteCopied(db, copied);
  for (let steps = 8 + random.below(30); steps > 0; steps -= 4) {
    for (const application of applications) await application.run(4);
    await sleep(random.below(12));
  }
  if (random.chance(0.7)) await settle(); // else what is open outlives the worker
  for (let waits = random.below(30); waits > 0 && worker.running; waits--) await sleep(15);
  await worker.end();
  if (await metadataThere(db)) await noteCopied(db, copied);
  await assertPosition(db, config.group);
  return `${way} ${failpoint}`;
}

function randomFailpoint(random: Random, way: Way): string {
  const name = random.pick(random.chance(0.8) ? often : reached);
  const code = random.pick(["", "(CONNECTION_LOST)", "(STORAGE_FULL)"]);
  const action = way === "error" ? `error${code}` : "kill";
  return `${name}:${random.pick([1, 1, 2, 3, 5])}=${action}`;
}

const STREAMING_MS = 5000;

/** Until the tables have their cuts, or are copied, or the worker met its end before. */
async function untilStreaming(db: Client, group: string, worker: RunningWorker, copied: boolean): Promise<void> {
  const since = performance.now();
  const before = copied ? ["pending", "copying"] : ["pending"];
  while (worker.running && performance.now() - since < STREAMING_MS) {
    await sleep(20);
    const waiting = `select bool_and(s.position is not null) and bool_and(t.state <> all($2)) as yes
      from _pg_flo.streams s join _pg_flo.tables t on t.group_name = s.group_name where s.group_name = $1`;
    if ((await metadataThere(db)) && (await db.query(waiting, [group, before])).rows[0].yes) return;
  }
}

async function metadataThere(db: Client): Promise<boolean> {
  const there = "select to_regclass('_pg_flo.files') is not null and to_regclass('_pg_flo.streams') is not null as yes";
  return (await db.query(there)).rows[0].yes;
}

/** What the manifest lists is up to the position, and nothing above it. */
async function assertPosition(db: Client, group: string): Promise<void> {
  if (!(await metadataThere(db))) return;
  const { rows } = await db.query(
    `select max(f.lsn_end) as listed, max(s.position) as position from _pg_flo.streams s
     left join _pg_flo.files f on f.group_name = s.group_name and f.kind = 'stream' where s.group_name = $1`,
    [group],
  );
  const { listed, position } = rows[0];
  if (listed !== null && BigInt(listed) > BigInt(position)) {
    throw new Error(`files up to ${listed} are listed, the position is ${position}`);
  }
}
