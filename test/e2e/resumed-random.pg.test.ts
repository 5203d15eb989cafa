// Random updates, key changes, deletes and inserts while a copy is made range by range, its worker killed behind each: the
// mirror is equal row by row. PG_FLO_SEED repeats a run, PG_FLO_ROUNDS asks for more of them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Client } from "pg";
import { readManifest } from "../../src/metadata/status.ts";
import { connect, endClient } from "../../src/postgres/connect.ts";
import { compareTables } from "../../src/verify/compare.ts";
import { makeFailpointRun } from "../support/failpoint-run.ts";
import { completesCopy } from "../support/manifest-check.ts";
import { openMirror } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { seededRandom } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

type Random = () => number;
const ROWS = 500;
const ROUNDS = Number(process.env.PG_FLO_ROUNDS ?? 1);
const below = (random: Random, limit: number) => Math.floor(random() * limit);

/** Keys of several types: each is looked up in its own way. */
const keys = [
  { type: "bigint", of: "k" },
  { type: "text", of: `'it''s "' || k || '\\'` },
  { type: "numeric", of: "k * 1e-20" }, // more than DECIMAL(38,18) holds
  { type: "timestamptz", of: "timestamptz '2020-01-01 00:00:00.000001+00' + k * interval '1 hour'" },
  { type: "bytea", of: "decode(lpad(to_hex(k), 8, '0'), 'hex')" },
  { type: "float8", of: "k / 3.0" },
];

async function makeTable(client: Client, random: Random): Promise<string> {
  const key = keys[below(random, keys.length)]!;
  const partitioned = random() < 0.3;
  const options = partitioned ? "partition by hash (key)" : random() < 0.5 ? "with (fillfactor = 100)" : "";
  await client.query(`create table doc (key ${key.type} not null, second int not null default 0, n int default 0, note text, body text,
      other jsonb, primary key (key, second)) ${options}`);
  for (const rest of partitioned ? [0, 1] : []) {
    await client.query(`create table doc_${rest} partition of doc for values with (modulus 2, remainder ${rest})`);
  }
  await client.query("alter table doc alter body set storage external");
  await client.query(`insert into doc select ${key.of}, 0, 0, repeat('n', 60), repeat(md5(k::text), 150),
      case when k % 3 = 0 then (select jsonb_agg(md5(v::text)) from generate_series(k, k + 300) v) end
    from generate_series(1, ${ROWS}) k`);
  await client.query(
    `delete from doc where second = 0 and ctid < '(3,0)' and n = 0 and abs(hashtext(key::text)) % 4 > 0`,
  );
  await client.query("vacuum doc");
  return key.of;
}

/** Statements about a random share of the rows. */
function statement(random: Random, keyOf: string, step: number): string {
  const part = `abs(hashtext(key::text || second || '${step}')) % ${2 + below(random, 12)} = 0`;
  const someKey = keyOf.replaceAll("k", `${ROWS + 1 + below(random, 50)}`);
  switch (below(random, 9)) {
    case 0:
    case 1:
    case 2:
      return `update doc set n = n + 1, note = note || '.' where ${part}`;
    case 3:
      return `update doc set second = second + ${1 + below(random, 3)} where ${part} and not exists (select from doc d where d.key = doc.key and d.second > doc.second)`;
    case 4:
      return `update doc set body = repeat(md5('${step}'), ${below(random, 200)}) where ${part} and n % 2 = 0`;
    case 5:
      return `update doc set other = other || '"${step}"' where ${part}`;
    case 6:
      return `delete from doc where ${part} and n % 3 = 0`;
    case 7:
      return `insert into doc (key, second, body) values (${someKey}, 0, repeat('new', 1500))
        on conflict (key, second) do update set n = doc.n + 1`;
    default: // a key that goes and comes back, and one that takes another's place
      return `with gone as (delete from doc where ${part} returning *)
        insert into doc select key, second + 100, n, note, body, other from gone`;
  }
}

async function change(client: Client, random: Random, keyOf: string): Promise<void> {
  for (let transaction = 1 + below(random, 4); transaction > 0; transaction--) {
    await client.query("begin");
    for (let count = 1 + below(random, 3); count > 0; count--) {
      const sql = statement(random, keyOf, below(random, 1e6));
      await client.query("savepoint one");
      await client.query(sql).catch(async (error: Error & { code?: string }) => {
        assert.equal(error.code, "23505", `${error.message}: ${sql}`); // a key that is taken
        await client.query("rollback to one");
      });
      if (random() < 0.1) await client.query("rollback to one");
    }
    await client.query(random() < 0.9 ? "commit" : "rollback");
  }
  if (random() < 0.5) await client.query("vacuum doc");
}

async function assertEqual(database: TestDatabase, root: string): Promise<number> {
  const source = await connect(database.config, { applicationName: "test compare" });
  try {
    const [compared] = await compareTables({ source, manifest: await readManifest(source, "app"), storageRoot: root });
    assert.ok(compared?.equal, JSON.stringify(compared));
  } finally {
    await endClient(source);
  }
  await using mirror = await openMirror({ source: database.client, root });
  return mirror.files.filter(completesCopy).reduce((sum, file) => sum + file.rowCount, 0);
}

test(`a table that changes at random while its copy is killed behind each range is equal (${ROUNDS} rounds)`, async () => {
  const { next: random } = seededRandom();
  for (let round = 0; round < ROUNDS; round++) {
    await using database = await server.createDatabase();
    const { client } = database;
    const keyOf = await makeTable(client, random);
    await using run = await makeFailpointRun({ source: database.config, copy: "{ parallel: 1, file_size: 1MB }" });
    const left = async () => {
      const { rows } = await client.query("select ranges_total - ranges_done as n, generation from _pg_flo.tables");
      assert.equal(rows[0].generation, 1, "nothing begins anew");
      return rows[0].n as number;
    };
    do {
      await run.killedAt("copy.after-range-commit");
      await change(client, random, keyOf);
    } while ((await left()) > 0);
    if (random() < 0.5) await run.killedAt(random() < 0.5 ? "completion.files-durable" : "completion.committed");
    await change(client, random, keyOf);
    await run.restart();
    await change(client, random, keyOf);
    await run.restart();
    const { rows } = await client.query("select count(*)::int as n, max(n) from doc");
    const again = await assertEqual(database, run.root);
    console.log(`# round ${round + 1}: key ${keyOf}, ${rows[0].n} rows, ${again} were read again`);
  }
});
