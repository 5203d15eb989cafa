// The whole way of a type's values against the whole way of their text: COPY of a table of one column from a live server
// into a Parquet file, once as the type is mirrored, once as a type without a decoder is: the server prints every value
// (format('%s')), and the text goes into a STRING. CPU time of the server's backend, of this process, and wall time.
import { readFile } from "node:fs/promises";
import { type CopyProgress, copyRange, type RangeCopy } from "../../src/copy/range-copy.ts";
import { readTables, readTypes } from "../../src/postgres/catalog.ts";
import { takeBytesAsTheyAre } from "../../src/postgres/client-encoding.ts";
import { connect } from "../../src/postgres/connect.ts";
import { type RawConnection, takeOver } from "../../src/postgres/raw-connection.ts";
import { GatheringSocket } from "../../src/postgres/socket.ts";
import { openStorage } from "../../src/storage/open.ts";
import type { Storage } from "../../src/storage/storage.ts";
import { textFamily } from "../../src/types/bytes.ts";
import { type ColumnPlan, planColumns } from "../../src/types/registry.ts";
import { encodeTree } from "../../src/types/tree-encoder.ts";
import { valueTree } from "../../src/types/type-tree.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { startPostgres, type TestDatabase } from "../../test/support/postgres.ts";
import type { Subject } from "./further-subjects.ts";

const distinctCount = 32_768;
const runs = 3;

const setupSql = `
  create extension hstore; create extension ltree; create extension cube;
  create type row_of_values as (id int4, label text, price numeric);
  create type row_of_places as (id int8, at timestamptz, "where" point)`;

interface Cost {
  readonly serverMs: number;
  readonly clientMs: number;
  readonly wallMs: number;
}

/** Prints a line for each subject whose type the server has. `rowCount`: at least. */
export async function comparePaths(subjects: readonly Subject[], rowCount: number): Promise<void> {
  const settings = { shared_buffers: "512MB", max_wal_size: "8GB", autovacuum: "off" };
  await using server = await startPostgres({ onDisk: true, settings });
  await using database = await server.createDatabase("bench");
  await database.client.query(setupSql);
  const times = Math.ceil(rowCount / distinctCount);
  console.log(`CPU microseconds per value, server + client; COPY of ${times * distinctCount} values, best of ${runs}`);
  console.log(`${"".padEnd(40)}     as mirrored         as text    CPU: of text's rate   wall: of text's rate`);
  for (const subject of subjects) {
    if (subject.sql === null) continue;
    const [mirrored, text] = await measure(database, subject, times);
    const cpu = ({ serverMs, clientMs }: Cost) => serverMs + clientMs;
    const shown = ({ serverMs, clientMs }: Cost) =>
      [serverMs, clientMs].map((ms) => ((ms * 1000) / (times * distinctCount)).toFixed(2).padStart(5)).join(" + ");
    const ratios = [cpu(text) / cpu(mirrored), text.wallMs / mirrored.wallMs].map((ratio) => ratio.toFixed(2));
    console.log(
      `${subject.name.padEnd(40)} ${shown(mirrored)}   ${shown(text)} ${ratios[0]!.padStart(16)} ${ratios[1]!.padStart(22)}`,
    );
  }
}

async function measure(database: TestDatabase, subject: Subject, times: number): Promise<[Cost, Cost]> {
  const { client, config } = database;
  const type = subject.sql ?? subject.name;
  const texts = Array.from({ length: distinctCount }, (_, i) => subject.text(i));
  await client.query(`create table v (v ${type})`);
  await client.query(`insert into v select t::${type} from unnest($1::text[]) t, generate_series(1, $2)`, [
    texts,
    times,
  ]);
  await client.query("vacuum (freeze, analyze) v");
  const [table] = await readTables(client);
  const mirrored = planColumns(table!.columns, await readTypes(client));
  const asText = planColumns(table!.columns, new Map()).map((plan) => ({
    ...plan,
    ...{ binary: false, encode: encodeTree(valueTree(textFamily)), parquet: textColumn(plan) },
  }));
  await using folder = await makeTestFolder();
  const storage = openStorage({ kind: "local", root: folder.path });
  const best: [Cost, Cost] = [worst, worst];
  // In turn, so that a machine that gets slower does so for both.
  for (let run = 0; run < runs; run++) {
    best[0] = better(best[0], await copyOnce(config, storage, mirrored));
    best[1] = better(best[1], await copyOnce(config, storage, asText));
  }
  await client.query("drop table v");
  return best;
}

const worst: Cost = { serverMs: Infinity, clientMs: Infinity, wallMs: Infinity };

function better(a: Cost, b: Cost): Cost {
  const cpu = a.serverMs + a.clientMs <= b.serverMs + b.clientMs ? a : b;
  return { ...cpu, wallMs: Math.min(a.wallMs, b.wallMs) };
}

function textColumn({ fileName, parquet }: ColumnPlan): ColumnPlan["parquet"] {
  return { kind: "value", name: fileName, fieldId: parquet.fieldId, type: textFamily.type };
}

async function copyOnce(config: TestDatabase["config"], storage: Storage, columns: ColumnPlan[]): Promise<Cost> {
  const connection = await open(config);
  try {
    const [[pid] = []] = await connection.query("select pg_backend_pid()");
    const range: RangeCopy = {
      ...{ group: "bench", schema: "public", table: "v", heapSchema: "public", heapName: "v", rangeNumber: 1 },
      ...{ blockFrom: 0, blockTo: null, columns, schemaVersion: 1, fileSizeBytes: 1 << 30, compression: "zstd" },
      snapshotLsn: 0n as RangeCopy["snapshotLsn"],
    };
    const progress: CopyProgress = { rowCount: 0, sizeBytes: 0 };
    const started = { server: await cpuMs(pid!), client: process.cpuUsage(), wall: performance.now() };
    await (await copyRange(connection, storage, range, progress)).finish();
    const { user, system } = process.cpuUsage(started.client);
    const wallMs = performance.now() - started.wall;
    return { serverMs: (await cpuMs(pid!)) - started.server, clientMs: (user + system) / 1000, wallMs };
  } finally {
    await connection.close();
  }
}

async function open(config: TestDatabase["config"]): Promise<RawConnection> {
  const stream = () => new GatheringSocket({ gather: false });
  const connection = takeOver(await connect(config, { applicationName: "bench", statementTimeoutMs: 0, stream }));
  await takeBytesAsTheyAre(connection);
  return connection;
}

/** Time on a CPU, of Linux: https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat */
async function cpuMs(pid: string): Promise<number> {
  return Number((await readFile(`/proc/${pid}/schedstat`, "utf8")).split(" ")[0]) / 1e6;
}
