import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { startPostgres } from "./postgres.ts";
import { connectionEnvironment, findTools } from "./tools.ts";

test("psql and pgbench are there and reach a test server", async () => {
  const tools = await findTools();
  await using server = await startPostgres();
  const env = { ...tools.env, ...connectionEnvironment(server.config()) };
  await promisify(execFile)(tools.pgbench, ["-i", "-q", "-s", "1"], { env });
  const { stdout } = await promisify(execFile)(tools.psql, ["-Atc", "select count(*) from pgbench_accounts"], { env });
  assert.equal(stdout.trim(), "100000");
});
