import assert from "node:assert/strict";
import { test } from "node:test";
import { testedVersions } from "../../test/support/long-form.ts";
import { startPostgres } from "../../test/support/postgres.ts";
import { balanceInvariant, createShop, shopTables } from "./shop.ts";
import { runWorkload } from "./workload.ts";

for (const version of testedVersions) {
  test(`the shop is filled and worked on under PostgreSQL ${version}, and the sum of balances stays`, async () => {
    await using server = await startPostgres({ version });
    const config = server.config();
    await createShop(config, 0.05);
    const [before] = await server.query<{ sum: string }>(balanceInvariant);
    const endless = new AbortController().signal;
    const counts = await runWorkload(config, endless, { transactions: 600, ratePerSecond: 0, seed: version });
    assert.deepEqual(await server.query(balanceInvariant), [before]);
    assert.equal(counts.transactions + counts.rolledBack, 600);
    for (const [what, count] of Object.entries(counts)) assert.ok(count > 0, `no ${what}`);
  });
}

test("the workload ends when the signal says so, and at once when it came before", async () => {
  await using server = await startPostgres();
  await createShop(server.config(), 0.01);
  const stop = new AbortController();
  const ticks: number[] = [];
  const counts = await runWorkload(server.config(), stop.signal, {
    ratePerSecond: 200,
    onTick: ({ transactions }) => {
      ticks.push(transactions);
      stop.abort();
    },
  });
  assert.equal(ticks.length, 1);
  assert.ok(counts.transactions >= (ticks[0] ?? 0));
  assert.equal((await runWorkload(server.config(), stop.signal)).transactions, 0);
});

test("the list of the shop's tables is what the database has", async () => {
  await using server = await startPostgres();
  await createShop(server.config(), 0.01);
  const rows = await server.query<{ name: string; key: string[] }>(
    `select c.relname as name, array(select a.attname::text from pg_index i join pg_attribute a
         on a.attrelid = c.oid and a.attnum = any(i.indkey) where i.indrelid = c.oid and i.indisprimary order by a.attnum) as key
     from pg_class c where c.relnamespace = 'shop'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
     order by c.oid`,
  );
  assert.deepEqual(
    rows,
    shopTables.map(({ name, key }) => ({ name, key })),
  );
});
