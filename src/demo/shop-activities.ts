// What people do in the shop: each activity is one transaction, and each is a case that a mirror can get wrong.
// Orders and lines are locked by primary key, customers in the order of their ids, so deadlocks are rare.
import type pg from "pg";
import { documentId, longText } from "./shop.ts";
import { allTypesAssignment, allTypesSelect } from "./shop-values.ts";
import type { MutableCounts } from "./workload.ts";

/** Largest numbers of the filled rows. */
export interface ShopSizes {
  readonly customers: number;
  readonly products: number;
  readonly shelves: number;
  readonly documents: number;
  readonly allTypes: number;
  readonly odd: number;
}

export interface ActivityContext {
  readonly client: pg.Client;
  readonly sizes: ShopSizes;
  /** 0 ≤ x < 1 */
  readonly random: () => number;
  /** What the activity did; dropped when it is rolled back. */
  readonly did: MutableCounts;
}

export interface ShopActivity {
  readonly name: string;
  /** How often, relative to the others. */
  readonly weight: number;
  run(context: ActivityContext): Promise<"commit" | "rollback">;
}

export const shopActivities: readonly ShopActivity[] = [
  { name: "transfer money", weight: 20, run: transferMoney },
  { name: "place an order", weight: 20, run: placeOrder },
  { name: "change an order", weight: 12, run: changeOrder },
  { name: "cancel an order", weight: 4, run: cancelOrder },
  { name: "browse", weight: 10, run: browse },
  { name: "move stock to another key", weight: 6, run: moveStock },
  { name: "swap two keys", weight: 3, run: swapStock },
  { name: "ship, and move between partitions", weight: 6, run: ship },
  { name: "edit a document without its text", weight: 6, run: editDocument },
  { name: "replace a document", weight: 2, run: replaceDocument },
  { name: "change a row of all types", weight: 6, run: changeAllTypes },
  { name: "change an odd table", weight: 4, run: changeOddTable },
  { name: "roll back to a savepoint", weight: 4, run: rollBackToSavepoint },
  { name: "abort", weight: 3, run: abort },
  { name: "a row that lives for one transaction", weight: 3, run: shortLife },
  { name: "update a range of rows", weight: 1, run: updateMany },
  { name: "empty the baskets", weight: 1, run: emptyBaskets },
];

/** The sum of all balances stays: the mirror must never show one side alone. */
async function transferMoney(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const [from, to] = [number(context, sizes.customers), number(context, sizes.customers)];
  if (from === to) return "commit";
  await client.query("select from shop.customers where id in ($1, $2) order by id for update", [from, to]);
  const amount = number(context, 10_000) / 100;
  const { rowCount } = await client.query(
    `update shop.customers set balance = balance + case id when $1 then -$3::numeric else $3::numeric end
     where id in ($1, $2) and (select count(*) from shop.customers where id in ($1, $2)) = 2`,
    [from, to, amount],
  );
  did.updates += rowCount ?? 0;
  did.transfers++;
  return "commit";
}

async function placeOrder(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const order = await insertOrder(context, number(context, sizes.customers));
  const lines = number(context, 5);
  const products = Array.from({ length: lines }, () => number(context, sizes.products));
  did.inserts += await change(
    client,
    `insert into shop.order_lines
     select $1, line, product, 1 + line % 3, line * 1.25 from unnest($2::int[]) with ordinality lines (product, line)`,
    [order, products],
  );
  did.updates += await change(
    client,
    `update shop.orders set total = (select sum(quantity * unit_price) from shop.order_lines where order_id = id) where id = $1`,
    [order],
  );
  return "commit";
}

async function changeOrder(context: ActivityContext): Promise<"commit"> {
  const { client, did } = context;
  did.updates += await change(
    client,
    `update shop.orders set status = (enum_range(null::shop.order_status))[1 + $2::int], note = nullif($3, '')
     where id = $1`,
    [await someOrder(context), number(context, 4) - 1, context.random() < 0.5 ? "" : `note ${number(context, 1000)}`],
  );
  return "commit";
}

async function cancelOrder(context: ActivityContext): Promise<"commit"> {
  const { client, did } = context;
  const order = await someOrder(context);
  await client.query("select from shop.orders where id = $1 for update", [order]);
  did.deletes += await change(client, "delete from shop.order_lines where order_id = $1", [order]);
  did.deletes += await change(client, "delete from shop.orders where id = $1", [order]);
  return "commit";
}

/** Two equal rows in a table without a key. */
async function browse(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  did.inserts += await change(
    client,
    "insert into shop.clicks select clock_timestamp(), $1, '/page/' || $2::int, $2 from generate_series(1, 2)",
    [number(context, sizes.customers), number(context, 50)],
  );
  return "commit";
}

async function moveStock(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const moved = await change(
    client,
    `update shop.stock set warehouse = warehouse + 1, quantity = quantity + 1
     where (warehouse, shelf) = (select warehouse, shelf from shop.stock where shelf = $1 and warehouse < 100 limit 1)`,
    [number(context, sizes.shelves)],
  );
  did.updates += moved;
  did.moves += moved;
  return "commit";
}

/** Swaps the keys of two rows by way of a third: in the log it is a chain, its effect is two changed rows. */
async function swapStock(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const { rows } = await client.query<{ warehouse: number; shelf: number }>(
    "select warehouse, shelf from shop.stock where shelf >= $1 order by shelf, warehouse limit 2 for update",
    [number(context, sizes.shelves) - 1],
  );
  const [first, second] = rows;
  if (!first || !second) return "commit";
  const move = async (from: readonly number[], to: readonly number[]) => {
    const sql = "update shop.stock set warehouse = $3, shelf = $4 where warehouse = $1 and shelf = $2";
    const moved = await change(client, sql, [...from, ...to]);
    did.updates += moved;
    did.moves += moved;
  };
  const keyOf = (row: { warehouse: number; shelf: number }) => [row.warehouse, row.shelf];
  const aside = [-1, first.shelf]; // no other row has a negative warehouse after a commit
  await move(keyOf(first), aside);
  await move(keyOf(second), keyOf(first));
  await move(aside, keyOf(second));
  return "commit";
}

async function ship(context: ActivityContext): Promise<"commit"> {
  const { client, did } = context;
  const day = number(context, 700);
  did.inserts += await change(
    client,
    "insert into shop.shipments (order_id, shipped_on, carrier, weight_kg) values ($1, date '2024-06-01' + $2::int, 'fast', $3)",
    [number(context, 30_000), day, day / 7],
  );
  const moved = await change(
    client,
    "update shop.shipments set shipped_on = shipped_on + 180 where id = (select id from shop.shipments where id >= $1 order by id limit 1)",
    [number(context, 20_000)],
  );
  did.updates += moved;
  did.moves += moved;
  return "commit";
}

/** Leaves the TOASTed values untouched: the log does not carry them. Twice, to see them merged. */
async function editDocument(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const document = number(context, sizes.documents);
  const sql = `update shop.documents set version = version + 1, title = 'Edited ' || version where id = ${documentId("$1::int")}`;
  did.updates += await change(client, sql, [document]);
  if (context.random() < 0.3) did.updates += await change(client, sql, [document]);
  return "commit";
}

/** A new text, or a new id that keeps the old text, or another row. */
async function replaceDocument(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const document = number(context, sizes.documents);
  const where = `where id = ${documentId("$1::int")}`;
  const kind = context.random();
  if (kind < 0.4) {
    const sql = `update shop.documents set body = ${longText("$2::int", 350)}, version = version + 1 ${where}`;
    did.updates += await change(client, sql, [document, number(context, 1_000_000)]);
  } else if (kind < 0.7) {
    const moved = await change(client, `update shop.documents set id = gen_random_uuid() ${where}`, [document]);
    did.updates += moved;
    did.moves += moved;
  } else {
    did.deletes += await change(client, `delete from shop.documents ${where}`, [document]);
    const values = `${documentId("$1::int")}, 'New', 1, ${longText("$2::int", 300)}, '{}', null`;
    const sql = `insert into shop.documents values (${values})`;
    did.inserts += await change(client, sql, [document, number(context, 1_000_000)]);
  }
  return "commit";
}

async function changeAllTypes(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const id = number(context, sizes.allTypes + 200);
  const value = `${number(context, 100_000)}`;
  if (context.random() < 0.2) did.deletes += await change(client, "delete from shop.all_types where id = $1", [id]);
  const insert = `insert into shop.all_types select $1, ${allTypesSelect(value)} on conflict do nothing`;
  const inserted = await change(client, insert, [id]);
  did.inserts += inserted;
  if (inserted > 0) return "commit";
  const assignments = new Set([0, 1, 2].map(() => allTypesAssignment(number(context, 1000), value)));
  did.updates += await change(client, `update shop.all_types set ${[...assignments].join(", ")} where id = $1`, [id]);
  return "commit";
}

async function changeOddTable(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const table = `shop."Odd ""Names"".Tablé"`;
  const id = number(context, sizes.odd);
  const kind = context.random();
  if (kind < 0.3) {
    const values = `$1, 'Row ' || gen_random_uuid(), null, $1 / 3.0, null, 'é', now(), ''`;
    did.inserts += await change(client, `insert into ${table} values (${values.replaceAll("$1", "$1::int")})`, [id]);
  } else if (kind < 0.5) {
    did.deletes += await change(client, `delete from ${table} where "select" = $1`, [id]);
  } else if (kind < 0.7) {
    const moved = await change(client, `update ${table} set "Upper Case" = "Upper Case" || '!' where "select" = $1`, [
      id,
    ]);
    did.updates += moved;
    did.moves += moved;
  } else {
    const sql = `update ${table} set "quote""d" = "quote""d" + 1, "it's" = not "it's" where "select" = $1`;
    did.updates += await change(client, sql, [id]);
  }
  return "commit";
}

/** The order stays, what came after the savepoint does not. */
async function rollBackToSavepoint(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const customer = number(context, sizes.customers);
  const order = await insertOrder(context, customer);
  await client.query("savepoint before_mistake");
  await client.query("update shop.orders set total = 1e9 - 1 where id = $1", [order]);
  await client.query("insert into shop.clicks values (now(), $1, '/mistake', null)", [customer]);
  await client.query("rollback to savepoint before_mistake");
  if (context.random() < 0.5) {
    did.inserts += await change(client, "insert into shop.clicks values (now(), $1, '/kept', null)", [customer]);
    await client.query("release savepoint before_mistake");
  }
  return "commit";
}

async function abort(context: ActivityContext): Promise<"rollback"> {
  const { client, sizes } = context;
  const customer = number(context, sizes.customers);
  await insertOrder(context, customer);
  await client.query("update shop.customers set balance = balance + 1e6 where id = $1", [customer]);
  return "rollback";
}

async function shortLife(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const order = await insertOrder(context, number(context, sizes.customers));
  did.updates += await change(client, "update shop.orders set status = 'returned' where id = $1", [order]);
  did.deletes += await change(client, "delete from shop.orders where id = $1", [order]);
  return "commit";
}

async function updateMany(context: ActivityContext): Promise<"commit"> {
  const { client, sizes, did } = context;
  const first = number(context, sizes.products);
  did.updates += await change(
    client,
    `update shop.products set price = price + 0.01, tags = array_append(tags, 'sale') where id in (
       select id from shop.products where id between $1 and $1 + 100 order by id for update)`,
    [first],
  );
  return "commit";
}

async function emptyBaskets(context: ActivityContext): Promise<"commit"> {
  const { client, did } = context;
  const count = number(context, 20);
  const fill = `insert into shop.baskets select n, n, '[]' from generate_series(1, $1::int) n on conflict do nothing`;
  const before = await change(client, fill, [count]);
  await client.query("truncate shop.baskets");
  did.inserts += before + (await change(client, fill, [number(context, count)]));
  did.truncates++;
  return "commit";
}

async function insertOrder(context: ActivityContext, customer: number): Promise<string> {
  const { rows } = await context.client.query<{ id: string }>(
    "insert into shop.orders (customer_id, total, note) values ($1, $2, $3) returning id",
    [customer, number(context, 10_000) / 100, `order of ${customer}`],
  );
  context.did.inserts++;
  return rows[0]?.id ?? "0";
}

/** An old order mostly, sometimes one of the newest. */
async function someOrder(context: ActivityContext): Promise<string> {
  const { rows } = await context.client.query<{ id: string }>(
    `select id from shop.orders where id >= (select max(id) from shop.orders) * $1::float8 order by id limit 1`,
    [context.random() < 0.7 ? context.random() : 0.999],
  );
  return rows[0]?.id ?? "0";
}

async function change(client: pg.Client, sql: string, values: readonly unknown[]): Promise<number> {
  return (await client.query(sql, [...values])).rowCount ?? 0;
}

/** 1 to `most`. */
function number(context: ActivityContext, most: number): number {
  return 1 + Math.floor(context.random() * most);
}
