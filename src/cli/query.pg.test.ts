// `query` over what `replicate` wrote, from the command line.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { makePipeline, PASSWORD_VARIABLE, replicate, type TestPipeline } from "../../test/support/pipeline.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";

const execute = promisify(execFile);
const binary = fileURLToPath(new URL("../../bin/pg-flo.js", import.meta.url));

let server: TestServer;
let database: TestDatabase;
let pipeline: TestPipeline;
before(async () => {
  server = await startPostgres();
  database = await server.createDatabase();
  await database.client.query(`
    create type mood as enum ('good', 'bad'); create domain amount as numeric(9, 3);
    create schema "Odd ""s.x"; create table "Odd ""s.x"."select" (id bigint primary key, "a.b" text, "A.B" text);
    insert into "Odd ""s.x"."select" values (1, 'x', 'y');
    create table typed (id int primary key, b bool, n numeric(12, 2), t timestamptz, l int[], m mood, a amount, am amount[]);
    insert into typed values (1, true, 1.50, '2024-01-02 03:04:05+00', '{1,NULL}', 'bad', 2.5, '{1.25}');
    create table empty (like typed including all);
    create table accounts (id int primary key, balance int); insert into accounts values (1, 100), (2, 0);
    create table orders (id int primary key, total int); insert into orders select g, g from generate_series(1, 9) g`);
  pipeline = await makePipeline({ source: database.config, schemas: `{ public: "*", 'Odd "s.x': "*" }` });
  await replicate(pipeline, database);
  await database.client.query("update accounts set balance = 50");
  for (const sql of [
    ...[
      "update orders set id = id + 100 where id < 4",
      "delete from orders where id = 5",
      "insert into orders values (5, 55)",
    ],
    ...["begin; update orders set id = -id where id in (6, 7); update orders set id = 13 + id where id < 0; commit"],
    ...[
      "delete from orders where id = 101",
      "insert into orders values (1, 0); update orders set total = 11 where id = 1",
    ],
  ]) {
    await database.client.query(sql);
  }
  await replicate(pipeline, database);
});
after(async () => {
  await pipeline[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function output(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await pipeline.run(["query", ...args]);
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "");
  return stdout;
}

async function withInput(text: string, ...args: string[]) {
  const command = `printf %s "$3" | "$0" "$1" query --config "$2" ${args.join(" ")}`;
  const env = { ...process.env, [PASSWORD_VARIABLE]: database.config.password };
  return execute("sh", ["-c", command, process.execPath, binary, pipeline.config, text], { env });
}

test("a query shows the current state, and the history beside it, in every format", async () => {
  const sql = "select id, balance from accounts order by id";
  assert.equal(await output(sql), "id | balance\n---+--------\n1  | 50\n2  | 50\n(2 rows)\n");
  assert.equal(await output(sql, "--format", "csv"), "id,balance\n1,50\n2,50\n");
  assert.equal(await output(sql, "--json"), '{"id":1,"balance":50}\n{"id":2,"balance":50}\n');
  const changes = "select _pg_flo_operation as op, id from accounts__changes order by id";
  assert.equal(await output(changes, "--format", "csv"), "op,id\nUPDATE,1\nUPDATE,2\n");
  const file = join(pipeline.folder, "result.parquet");
  assert.equal(await output(sql, "--format", "parquet", "-o", file), "");
  assert.equal((await readFile(file)).subarray(0, 4).toString(), "PAR1");
  const named = join(pipeline.folder, "result.json");
  assert.equal(await output(sql, "--format", "json", "--output", named), "");
  assert.equal(await readFile(named, "utf8"), '{"id":1,"balance":50}\n{"id":2,"balance":50}\n');
});

test("a table without rows has the same columns and types as one with rows", async () => {
  const types = (table: string) => output(`select column_name, column_type from (describe ${table})`, "--json");
  const expected = [
    ...["INTEGER", "BOOLEAN", "DECIMAL(12,2)", "TIMESTAMP WITH TIME ZONE", "INTEGER[]", "VARCHAR"],
    ...["DECIMAL(9,3)", "DECIMAL(9,3)[]"],
  ];
  const lines = (await types("typed")).trim().split("\n");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).column_type),
    expected,
  );
  assert.equal(await types("empty"), await types("typed"));
  assert.equal(await output("select * from empty", "--format", "csv"), "id,b,n,t,l,m,a,am\n");
  assert.equal(
    await output("select * from typed", "--json"),
    '{"id":1,"b":true,"n":1.5,"t":"2024-01-02 03:04:05+00","l":[1,null],"m":"bad","a":2.5,"am":[1.25]}\n',
  );
});

test("the SQL of docs/files.md gives the state from the manifest's files", async () => {
  const blocks = (await readFile(new URL("../../docs/files.md", import.meta.url), "utf8")).split("```sql\n").slice(1);
  const [manifestSql, stateSql] = blocks.map((block) => block.split("```")[0]!);
  const { rows } = await database.client.query(manifestSql!);
  const paths = (kind: string) =>
    rows.filter((row) => row.kind === kind).map((row) => `'${join(pipeline.dataFolder, row.path)}'`);
  const sql = stateSql!
    .replace("[…stream paths…]", `[${paths("stream")}]`)
    .replace("[…copy paths…]", `[${paths("copy")}]`)
    .replace(":cut_lsn", rows[0].cut_lsn)
    .replace(":position", rows[0].position)
    .replace(/;\s*$/, " order by id");
  const source = await database.client.query("select id, total from orders order by id");
  assert.equal(await output(sql, "--json"), source.rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  assert.equal(await output("from orders order by id", "--json"), await output(sql, "--json"));
});

test("odd names work as they are listed", async () => {
  const listed = await pipeline.json<{ tables: readonly { name: string; view: string; history: string }[] }>([
    ...["query", "--tables"],
  ]);
  const odd = listed.tables.find(({ name }) => name === "select")!;
  assert.equal(odd.view, '"Odd ""s.x"."select"');
  assert.match(await output(`select * from ${odd.view}`), /\n1 +\| x +\| y\n\(1 row\)\n$/);
  assert.match(await output(`select count(*) from ${odd.history}`), /\n0\n/);
  assert.match(
    await output("--tables"),
    /public\.accounts +public\.accounts +public\.accounts__changes +streaming +2 +2\n/,
  );
});

test("--at shows the state at a position, in both notations", async () => {
  const { rows } = await database.client.query(`select lsn_start - 1 as number, ('0/0'::pg_lsn + (lsn_start - 1)) as lsn
    from _pg_flo.files where table_name = 'accounts' and kind = 'stream'`);
  for (const position of [String(rows[0].number), rows[0].lsn]) {
    const before = await output("select balance from accounts order by id", "--at", position, "--format", "csv");
    assert.equal(before, "balance\n100\n0\n", position);
  }
  const early = await pipeline.run(["query", "from accounts", "--at", "0/1"]);
  assert.match(early.stderr, /^\S+ warn {2}public\.accounts: its copy was made at [^\n]*\n$/);
});

test("statements come from standard input too, and end with semicolons", async () => {
  const { stdout } = await withInput("select 1 as a; -- one;\n\nselect ';' as b", "--format json");
  assert.equal(stdout, '{"a":1}\n{"b":";"}\n');
  await assert.rejects(withInput(" -- nothing"), { code: 2, stderr: /there is no SQL/ });
  await assert.rejects(withInput("select 1; select 2", "-o x"), { code: 2, stderr: /--output takes one result/ });
});

test("what cannot be done is one message: wrong SQL, writing statements, wrong options, a folder that is not there", async () => {
  const wrong: [string[], number, RegExp][] = [
    [["select * from nowhere"], 1, /^\[QUERY_FAILED\] .*nowhere does not exist/s],
    [["drop table accounts"], 1, /^\[QUERY_FAILED\] the query is not one SELECT/],
    [["select 1", "--format", "parquet"], 2, /needs a file for the result/],
    [["select 1", "--format", "xml"], 2, /Allowed choices are table, json, csv, parquet/],
    [["select 1", "--at", "1/G"], 2, /allowed are an LSN such as 0\/16B3748 and its number/],
    [
      ["select 1", "--format", "csv", "-o", join(pipeline.folder, "no/such/file")],
      1,
      /^\[QUERY_FAILED\] write the result/,
    ],
    [["select 1", "-o", join(pipeline.folder, "no/such/file")], 1, /^\[QUERY_FAILED\] write the result/],
  ];
  for (const [args, exitCode, message] of wrong) {
    const { code, stdout, stderr } = await pipeline.run(["query", ...args]);
    assert.deepEqual([code, stdout], [exitCode, ""], stderr);
    assert.match(stderr, message);
  }
});
