// The same log read twice, from two slots: by one worker, and by two of one group that take the stream from each other
// in the middle of their work. What their files say must be the same, row by row.
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { silentLog } from "../../../src/base/log.ts";
import type { Config } from "../../../src/config/config.ts";
import { runWorker } from "../../../src/worker/worker.ts";
import { type Application, LOCK_TIMEOUT } from "./application.ts";
import { type Change, type CopiedTables, type GroupFiles, noteCopied } from "./files.ts";
import type { Random } from "./random.ts";
import type { Table } from "./schema.ts";
import { catchUp, retrying, startWorker } from "./workers.ts";

const START_MS = 240_000;

/** Both groups are there before the application begins, so that both have all of its changes. */
export async function twoThatFight(
  random: Random,
  applications: readonly Application[],
  calm: Config,
  fought: Config,
  db: Client,
  copied: CopiedTables,
): Promise<string> {
  await catchUp(calm, START_MS);
  await catchUp(fought, START_MS);
  await noteCopied(db, copied);
  const one = startWorker("calm", calm, "");
  const stop = new AbortController();
  const fighters = [0, 1].map(() =>
    retrying(() => runWorker({ config: fought, log: silentLog, untilCaughtUp: false }, stop.signal), stop.signal),
  );
  let steals = 0;
  try {
    for (let steps = 30 + random.below(60); steps > 0; steps -= 4) {
      for (const application of applications) await application.run(4);
      await sleep(random.below(40));
      if (!random.chance(0.3)) continue;
      steals++;
      await db.query("set lock_timeout = 0"); // a robber waits for the batch that is being committed
      await db.query(random.pick(robberies), [fought.group]);
      await db.query(LOCK_TIMEOUT);
    }
    for (const application of applications) await application.settle();
    await sleep(random.below(300));
  } finally {
    stop.abort();
    await Promise.all([one.end(), ...fighters]);
  }
  const { rows } = await db.query("select epoch from _pg_flo.streams where group_name = $1", [fought.group]);
  return `fight of ${rows[0].epoch} epochs and ${steals} robberies`;
}

/** The lease ran out, a worker that nobody sees took the stream, or everybody is taken for dead. */
const robberies = [
  "update _pg_flo.streams set lease_until = clock_timestamp() - interval '1 s' where group_name = $1",
  "update _pg_flo.streams set epoch = epoch + 1, lease_until = clock_timestamp() - interval '1 s' where group_name = $1",
  "update _pg_flo.workers set heartbeat_at = heartbeat_at - interval '1 h' where group_name = $1",
] as const;

/** Every change that both have is the same, and they are in the same order. */
export function sameContent(tables: readonly Table[], one: GroupFiles, two: GroupFiles): void {
  for (const { name } of tables) {
    const [left, right] = [one.byTable.get(name)!, two.byTable.get(name)!];
    const from = left.cut > right.cut ? left.cut : right.cut;
    const texts = ({ changes }: typeof left) => changes.filter(({ lsn }) => lsn >= from).map(text);
    const [a, b] = [texts(left), texts(right)];
    const at = a.findIndex((each, index) => each !== b[index]);
    if (at >= 0 || a.length !== b.length) {
      throw new Error(
        `${name}: one worker wrote ${a.length} changes, two that fought ${b.length}; ${a[at]} is ${b[at]}`,
      );
    }
  }
}

/** Without its number: of a transaction that is streamed, what a subtransaction took back has numbers too. */
function text({ sequence: _, ...change }: Change): string {
  return JSON.stringify(change, (_, each) => (typeof each === "bigint" ? String(each) : each));
}
