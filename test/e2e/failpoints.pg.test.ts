// A test for each failpoint, generated from the list in the code (in the short form for some of each stage): a real worker
// is killed at that very point, started again, and then every row of the mirror is compared with the source.
import assert from "node:assert/strict";
import { mkdir, readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Failpoint, failpoints } from "../../src/base/failpoints.ts";
import { columnAdded } from "../support/failpoint-columns.ts";
import {
  dropped,
  droppedByForce,
  folded,
  merged,
  overBudget,
  recovered,
  resync,
  retried,
  type Scene,
  tampered,
} from "../support/failpoint-plays.ts";
import { type FailpointRun, makeFailpointRun } from "../support/failpoint-run.ts";
import { SCHEMA, write as writeStep } from "../support/killed-tables.ts";
import { sampleOf } from "../support/long-form.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";

/** Brings a worker to the failpoint; afterwards it is started again, unless it gives "compared". */
type Play = (scene: Scene) => Promise<unknown>;

const stages = ["fresh", "stream", "later", "spill", "compact", "drop"] as const;
type Stage = (typeof stages)[number];

interface Part {
  /** `fresh`: nothing is there yet. Others go on with a pipeline that runs since the test before. */
  readonly stage: Stage;
  readonly play: Play;
  readonly nth?: number;
  /** YAML, for `fresh`. */
  readonly schemas?: string;
}

const TABLES = ["t", "wide", "plain", "parted", "audit"];
/** Each batch has files of its own, which the comparison reads. */
const WRITES_MOST = 8;

async function writeWhile({ write }: Scene, work: Promise<void>): Promise<void> {
  let ended = false;
  const watched = work.finally(() => {
    ended = true;
  });
  const writing = (async () => {
    for (let count = 0; !ended && count < WRITES_MOST; count++, await sleep(40)) await write();
  })();
  await Promise.all([watched, writing]);
}

const atOnce: Play = (scene) => writeWhile(scene, scene.run.killedAt(scene.name, { nth: scene.nth }));

const afterChanges: Play = async ({ run, name, nth, write }) => {
  for (let k = 0; k < 3; k++) await write();
  await run.killedAt(name, { nth });
};

const idle: Play = ({ run, name, nth }) => run.killedAt(name, { nth });

const withNewTable: Play = async (scene) => {
  const { run, client, name, nth } = scene;
  await client.query(`drop table if exists newcomer; create table newcomer (id int primary key, x text);
    insert into newcomer select n, 'before' from generate_series(1, 100) n`);
  const changing = async () => {
    for (let id = 1; id < 4; id++) {
      await client.query(
        `update newcomer set x = 'after', id = -id where id = ${id}; insert into newcomer values (${1000 + id}, 'new')`,
      );
    }
  };
  await writeWhile(scene, run.killedAt(name, { nth, during: changing }));
};

const afterDeath: Play = async ({ run, client, name }) => {
  await client.query(
    `with dead as (insert into _pg_flo.workers (group_name, host, pid) values ($2, $1, 2147483647) returning worker_id)
     update _pg_flo.streams set owner = worker_id, lease_until = now() + interval '1 hour' from dead`,
    [hostname(), run.group],
  );
  await run.killedAt(name);
};

const slotLost: Play = async ({ run, client, name, write }) => {
  await run.restart();
  await client.query("select pg_drop_replication_slot(slot_name) from _pg_flo.streams");
  await write();
  await run.killedAt(name);
  await assert.rejects(run.restart(), { code: "SLOT_LOST" });
  assert.equal((await run.run(["drop", "--yes", "--files"])).code, 0);
};

const definitionChanged: Play = async ({ run, client, name, write }) => {
  await run.killedAt(name, {
    args: ["replicate"],
    during: async (worker) => {
      await worker.saw(/streaming/);
      const { rows } = await client.query(
        "select atttypid = 'int'::regtype as narrow from pg_attribute where attrelid = 'plain'::regclass and attname = 'n'",
      );
      await client.query(
        `alter table plain alter n type ${rows[0].narrow ? "bigint" : "int"}; insert into plain values (-1)`,
      );
      await write();
    },
  });
};

const definitionChangedBefore: Play = async ({ run, client, name, write }) => {
  await client.query("alter table wide alter c type timestamptz using c + interval '1 s'");
  await write();
  await run.killedAt(name);
};

const inexact: Play = async ({ database, run, client, name }) => {
  await client.query("update wide set c = 'infinity' where a = 1");
  await run.killedAt(name);
  await assert.rejects(run.restart(), { code: "TABLE_FAILED" });
  const { rows } = await client.query("select table_name from _pg_flo.tables where state = 'error'");
  assert.deepEqual(rows, [{ table_name: "wide" }]);
  await compare(database, run, ["t", "plain", "parted", "audit"]);
  return "compared";
};

/** Another worker reads, and takes so long for it that this one takes over its snapshot. */
const besideAnother: Play = async ({ run, name }) => {
  await using other = run.armed("copy.snapshot-imported=delay(8000)");
  await other.saw(/failpoint copy/);
  await run.killedAt(name);
};

const unfinishedSlot: Play = async ({ run, name }) => {
  await run.killedAt("slot.created");
  await run.killedAt(name);
};

/** Under the first snapshot nothing is read, under the second rows are whose documents were not touched since. */
const resumed: Play = async ({ run, client, name }) => {
  await run.killedAt("copy.planned"); // of all tables
  await client.query("update t set n = n + 1 where id % 20 = 0; update t set id = -id where id % 40 = 0");
  await run.killedAt(name);
};

/** Its key is changed by none of the writes. */
const LARGE_ROW = 300;

/** Twice stream.memory and what is received at once, nearly all of it in one row's changes. */
const large: Play = async ({ run, client, name, nth, nextStep }) => {
  const step = nextStep();
  await client.query(`begin; update t set large = repeat('${step % 10}', 600000) where id = ${LARGE_ROW};
    ${Array.from({ length: 60 }, (_, k) => `update t set n = n + 1, large = overlay(large placing '${k}' from 1) where id = ${LARGE_ROW};`).join("")}
    update t set id = 1000000 + id where id = ${(step % 250) + 30}; commit`);
  await run.killedAt(name, { nth });
  await run.restart();
  assert.deepEqual(await readdir(join(run.folder, "spill")), []);
};

const fresh = (nth = 1): Part => ({ stage: "fresh", play: atOnce, nth });
const streamed = (nth = 1): Part => ({ stage: "stream", play: afterChanges, nth });
const later = (nth = 1): Part => ({ stage: "later", play: withNewTable, nth });
const spilled = (nth = 1): Part => ({ stage: "spill", play: large, nth });
const compacts = (play: Play): Part => ({ stage: "compact", play });
const drops = (play: Play = dropped, nth = 1): Part => ({ stage: "drop", play, nth });

const parts: Readonly<Record<Failpoint, Part>> = {
  "migration.applied": fresh(),
  "migration.committed": fresh(),
  "group.registered": fresh(),
  "worker.joined": streamed(),
  "worker.dead-released": { stage: "stream", play: afterDeath },
  "stream.registered": fresh(),
  "stream.claimed": streamed(),
  "tables.in-registration": later(),
  "tables.registered": fresh(),
  "tables.published": later(),
  "table.retried": { stage: "stream", play: retried },
  "request.in-transaction": { stage: "stream", play: resync },
  "table.begun-anew": { stage: "stream", play: definitionChangedBefore },
  "publication.created": fresh(),
  "publication.altering": later(),
  "publication.altered": later(),
  "slot.unfinished-dropped": { stage: "fresh", play: unfinishedSlot },
  "snapshot.exported": fresh(),
  "slot.created": fresh(),
  "slot.given-up": { stage: "fresh", play: overBudget },
  "slot.in-activation": fresh(),
  "slot.activated": fresh(),
  "cut.awaited": later(),
  "cut.slot-created": later(),
  "cut.held-put": later(),
  "cut.in-commit": later(),
  "cut.stored": later(),
  "snapshot.imported": { stage: "fresh", play: besideAnother },
  "snapshot.registered": fresh(),
  "cut.copy-only-stored": {
    stage: "fresh",
    play: idle,
    schemas: "{ public: { t: { mode: copy-only }, wide: {}, plain: {}, parted: {}, audit: {} } }",
  },
  "copy.planned": fresh(),
  "copy.range-claimed": fresh(2),
  "copy.snapshot-imported": later(),
  "copy.range-read": fresh(2),
  "copy.file-durable": fresh(2),
  "copy.before-range-commit": fresh(3),
  "copy.in-range-commit": fresh(2),
  "copy.after-range-commit": fresh(2),
  "completion.keys-found": { stage: "fresh", play: resumed },
  "completion.files-durable": { stage: "fresh", play: resumed },
  "completion.in-commit": { stage: "fresh", play: resumed },
  "completion.committed": { stage: "fresh", play: resumed },
  "copy.table-failing": {
    stage: "fresh",
    play: inexact,
    schemas: "{ public: { t: {}, wide: { on_inexact: error }, plain: {}, parted: {}, audit: {} } }",
  },
  "file.synced": streamed(2),
  "file.renamed": streamed(3),
  "stream.taken": streamed(),
  "stream.marked-lost": { stage: "fresh", play: slotLost },
  "stream.table-failed": {
    stage: "fresh",
    play: (scene) => scene.run.restart().then(() => inexact(scene)),
    schemas: "{ public: { t: {}, wide: { on_inexact: error }, plain: {}, parted: {}, audit: {} } }",
  },
  "definition.storing": { stage: "stream", play: (scene) => columnAdded(scene, scene.nextStep()) },
  "definition.refused": { stage: "stream", play: definitionChanged },
  "definition.stored": { stage: "stream", play: (scene) => columnAdded(scene, scene.nextStep()) },
  "stream.position-moved": { stage: "stream", play: idle },
  "consolidate.done": streamed(2),
  "batch.encoded": streamed(2),
  "batch.file-durable": streamed(2),
  "batch.closed": streamed(),
  "batch.files-durable": streamed(),
  "batch.before-commit": streamed(),
  "batch.in-commit": streamed(),
  "batch.after-commit": streamed(),
  "batch.before-confirm": streamed(),
  "batch.confirmed": streamed(),
  "spill.named": spilled(),
  "spill.written": spilled(2),
  "spill.part-loaded": spilled(),
  "spill.split": spilled(),
  "spill.closed": spilled(),
  "repair.files-durable": { stage: "stream", play: tampered },
  "repair.before-commit": { stage: "stream", play: tampered },
  "repair.in-commit": { stage: "stream", play: tampered },
  "repair.committed": { stage: "stream", play: tampered },
  "recovery.slot-dropped": { stage: "fresh", play: recovered },
  "recovery.slot-created": { stage: "fresh", play: recovered },
  "recovery.files-durable": { stage: "fresh", play: recovered },
  "recovery.in-commit": { stage: "fresh", play: recovered },
  "recovery.committed": { stage: "fresh", play: recovered },
  "lease.renewed": streamed(),
  "worker.releasing": streamed(),
  "worker.released": streamed(),
  "compact.claimed": compacts(merged),
  "compact.file-durable": compacts(merged),
  "compact.in-commit": compacts(folded),
  "compact.after-commit": compacts(merged),
  "compact.folded": compacts(folded),
  "compact.retired-removed": compacts(folded),
  "drop.metadata-first": drops(droppedByForce),
  "drop.in-metadata": drops(),
  "drop.slot-dropped": drops(),
  "drop.publications-dropped": drops(),
  "drop.metadata-dropped": drops(),
  "drop.file-removed": drops(dropped, 2),
};

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

async function compare(database: TestDatabase, run: FailpointRun, tables: readonly string[] = TABLES): Promise<void> {
  const { rows } = await database.client.query("select to_regclass('newcomer') is not null as there");
  const all = rows[0].there ? [...tables, "newcomer"] : tables;
  await assertEqualToSource(
    { source: database.client, root: run.root, group: run.group },
    all.map((name) => ({ name })),
  );
}

interface OpenStage {
  readonly database: TestDatabase;
  readonly run: FailpointRun;
  readonly nextStep: () => number;
}

async function openStage(stage: Stage, schemas?: string): Promise<OpenStage> {
  const database = await server.createDatabase();
  await database.client.query(SCHEMA);
  const run = await makeFailpointRun({
    source: database.config,
    group: stage,
    stream: "{ flush_interval: 100ms, memory: 16MB, spill_folder: spill }",
    ...(schemas !== undefined && { schemas }),
  });
  await mkdir(join(run.folder, "spill"));
  let step = 1;
  return { database, run, nextStep: () => step++ };
}

async function playOn(stage: OpenStage, name: Failpoint): Promise<void> {
  const { database, run, nextStep } = stage;
  const { client } = database;
  const { play, nth = 1 } = parts[name];
  const write = () => writeStep(client, nextStep());
  if ((await play({ ...stage, client, name, nth, write })) === "compared") return;
  if (parts[name].play !== idle) await write();
  await run.restart();
  await compare(database, run);
}

/** How many of a stage the short form has, taken at random; PG_FLO_SEED says which. */
const SAMPLED = 3;
const { next: random } = seededRandom();

/** So many tests go on with one pipeline: each leaves it more files to compare. */
const TESTS_OF_A_PIPELINE = 6;

describe("killed at a failpoint", { concurrency: 3 }, () => {
  for (const stage of stages) {
    const all = (Object.keys(failpoints) as Failpoint[]).filter((name) => parts[name].stage === stage);
    const names = sampleOf(all, SAMPLED, random);
    describe(`stage ${stage}`, { concurrency: 1 }, () => {
      let played = 0;
      let running: Awaited<ReturnType<typeof openStage>> | null = null;
      const close = async () => {
        await running?.run[Symbol.asyncDispose]();
        await running?.database[Symbol.asyncDispose]();
        running = null;
      };
      after(close);
      for (const name of names) {
        test(`${name}: ${failpoints[name]}`, async () => {
          if (stage === "fresh" || played++ % TESTS_OF_A_PIPELINE === 0) {
            await close();
            running = await openStage(stage, parts[name].schemas);
            if (stage !== "fresh") await running.run.restart();
          }
          await playOn(running!, name);
        });
      }
    });
  }
});
