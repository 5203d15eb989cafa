// The application of a history: several sessions that interleave, each in a transaction or not, with savepoints, errors
// and rollbacks; and the source's state after every COMMIT, which is what the files must give at that position.
import type { Client } from "pg";
import type { Random } from "./random.ts";
import { randomTable, type Table } from "./schema.ts";
import { firstRows, randomStep } from "./statements.ts";

/** The source between two commits: all that committed below this LSN is in it. */
export interface SourceState {
  readonly lsn: bigint;
  /** By table, each row as JSON of its values' texts, sorted. */
  readonly rows: ReadonlyMap<string, readonly string[]>;
}

interface Session {
  readonly client: Client;
  open: boolean;
  savepoints: number;
}

export interface Application {
  readonly tables: readonly Table[];
  readonly states: readonly SourceState[];
  readonly commits: number;
  /** So many steps, of any session. */
  run(steps: number): Promise<void>;
  /** A table that was not there before, with rows. */
  createTable(): Promise<void>;
  /** Ends what is open. */
  settle(): Promise<void>;
  /** Nothing comes after it: the last state, which all files give together. */
  finish(): Promise<void>;
}

/** Of the last state: nothing comes behind it. */
export const LSN_MAX = 2n ** 63n;
/** What of a long text is compared: its hash and its length. */
export const LONG_TEXT = 200;
/** Nobody waits for a lock: all sessions are driven by one hand. */
export const LOCK_TIMEOUT = "set lock_timeout = '15ms'";

/** Every client has its LOCK_TIMEOUT. */
export async function startApplication(
  random: Random,
  observer: Client,
  clients: readonly Client[],
  tables: Table[],
): Promise<Application> {
  const prefix = tables[0]!.name.replace(/\d+$/, "");
  const sessions = clients.map((client): Session => ({ client, open: false, savepoints: 0 }));
  for (const { ddl } of tables) await observer.query(ddl);
  for (const table of tables) await observer.query(firstRowsOf(random, table));
  const states = [await readState(observer, tables)];
  let commits = 0;
  const record = async () => {
    commits++;
    try {
      states.push(await readState(observer, tables));
    } catch (error) {
      assertExpected(error); // another session truncated a table and goes on: nobody can see this moment
    }
  };
  const step = (session: Session) => takeStep(random, session, tables, record);
  return {
    tables,
    states,
    get commits() {
      return commits;
    },
    run: async (count) => {
      for (let at = 0; at < count; at++) await step(random.pick(sessions));
    },
    createTable: async () => {
      const kind = random.pick(["keyed", "full", "none", "partitioned", "composite"] as const);
      const table = randomTable(random, kind, `${prefix}${tables.length}`);
      await observer.query(`${table.ddl}; ${firstRows(random, table)}`);
      tables.push(table);
      await record();
    },
    settle: async () => {
      for (const session of sessions) if (session.open) await end(random, session, record);
      await record();
    },
    finish: async () => {
      if (states.at(-1)!.lsn < LSN_MAX) states.push({ ...(await readState(observer, tables)), lsn: LSN_MAX });
    },
  };
}

function firstRowsOf(random: Random, table: Table): string {
  if (table.kind !== "accounts") return firstRows(random, table);
  return `insert into ${table.name} (id, balance) select g, 100 from generate_series(0, 5) g`;
}

async function takeStep(
  random: Random,
  session: Session,
  tables: readonly Table[],
  record: () => Promise<void>,
): Promise<void> {
  const { client } = session;
  if (!session.open) {
    if (random.chance(0.3)) return alone(client, randomStep(random, tables), record);
    await client.query("begin");
    session.open = true;
    session.savepoints = 0;
    return;
  }
  const dice = random.below(100);
  if (dice < 16) return end(random, session, record);
  if (dice < 26) {
    await client.query(`savepoint s${++session.savepoints}`);
  } else if (dice < 34 && session.savepoints > 0) {
    await rollBackTo(random, session);
  } else if (dice < 38 && session.savepoints > 0) {
    await client.query(`release s${session.savepoints--}`);
  } else {
    await inside(random, session, randomStep(random, tables));
  }
}

/** A transaction of its own, which is rolled back when one of its statements fails. */
async function alone(client: Client, statements: readonly string[], record: () => Promise<void>): Promise<void> {
  try {
    await client.query(statements.length === 1 ? statements[0]! : `begin; ${statements.join("; ")}; commit`);
  } catch (error) {
    assertExpected(error);
    await client.query("rollback");
    return;
  }
  await record();
}

async function inside(random: Random, session: Session, statements: readonly string[]): Promise<void> {
  try {
    for (const statement of statements) await session.client.query(statement);
  } catch (error) {
    assertExpected(error);
    if (session.savepoints > 0 && random.chance(0.7)) await rollBackTo(random, session);
    else await rollBack(session);
  }
}

async function rollBackTo(random: Random, session: Session): Promise<void> {
  session.savepoints = 1 + random.below(session.savepoints);
  await session.client.query(`rollback to s${session.savepoints}`);
}

async function rollBack(session: Session): Promise<void> {
  session.open = false;
  await session.client.query("rollback");
}

async function end(random: Random, session: Session, record: () => Promise<void>): Promise<void> {
  if (random.chance(0.25)) return rollBack(session);
  session.open = false;
  try {
    await session.client.query("commit");
  } catch (error) {
    assertExpected(error); // a deferred constraint
    return;
  }
  await record();
}

/** What an application meets: unique and foreign keys, locks of another session, an account that is not there. */
const expected = new Set(["23505", "23503", "55P03", "40P01", "40001", "55006", "P0001"]);

function assertExpected(error: unknown): void {
  if (!expected.has((error as { code?: string }).code ?? "")) throw error;
}

/** Nobody commits meanwhile: the LSN and the rows are one moment's. */
async function readState(observer: Client, tables: readonly Table[]): Promise<SourceState> {
  const rows = tables.map(({ name, columns }) => {
    const values = columns.map(
      (column) => `case when length(${column}::text) > ${LONG_TEXT}
      then md5(${column}::text) || length(${column}::text) else ${column}::text end`,
    );
    return `array(select json_build_array(${values.join(", ")})::text from ${name})`;
  });
  const sql = `select pg_current_wal_insert_lsn() - '0/0' as lsn, ${rows.map((each, at) => `${each} as "${at}"`).join(", ")}`;
  const [found] = (await observer.query<Record<string, string[]> & { lsn: string }>(sql)).rows;
  return {
    lsn: BigInt(found!.lsn),
    rows: new Map(tables.map(({ name }, at) => [name, found![at]!.map(compact).sort()])),
  };
}

/** As JSON.stringify writes it. */
function compact(json: string): string {
  return JSON.stringify(JSON.parse(json));
}
