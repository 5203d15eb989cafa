// Makes and fills the demo's source tables. The server makes the rows, so filling takes seconds.
import { readFile } from "node:fs/promises";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { connect } from "../postgres/connect.ts";
import { allTypesSelect } from "./shop-values.ts";

export interface ShopTable {
  readonly schema: string;
  readonly name: string;
  /** Primary key, in the order of the table's columns. Empty: the table has none. */
  readonly key: readonly string[];
}

export const shopSchema = "shop";

/** The table whose name and columns need quotes. */
export const oddTableName = 'Odd "Names".Tablé';

/** Every table that is mirrored; partitioned ones as their root. */
export const shopTables: readonly ShopTable[] = [
  { schema: shopSchema, name: "customers", key: ["id"] },
  { schema: shopSchema, name: "products", key: ["id"] },
  { schema: shopSchema, name: "orders", key: ["id"] },
  { schema: shopSchema, name: "order_lines", key: ["order_id", "line_number"] },
  { schema: shopSchema, name: "stock", key: ["warehouse", "shelf"] },
  { schema: shopSchema, name: "clicks", key: [] },
  { schema: shopSchema, name: "baskets", key: ["id"] },
  { schema: shopSchema, name: "shipments", key: ["id", "shipped_on"] },
  { schema: shopSchema, name: "documents", key: ["id"] },
  { schema: shopSchema, name: "all_types", key: ["id"] },
  { schema: shopSchema, name: oddTableName, key: ["select", "Upper Case"] },
];

/** A question for `pg-flo query`, which has the same answer at the source. */
export const sampleQuery = `select c.country, count(*) as orders, sum(o.total) as turnover
from shop.orders o join shop.customers c on c.id = o.customer_id group by c.country order by turnover desc limit 5`;

/** The sum over all customers that `runWorkload` never changes. */
export const balanceInvariant = "select sum(balance) from shop.customers";

/** How many rows of each kind `fillShop` makes at scale 1; about 200,000 in all. */
export const shopCounts = {
  customers: 10_000,
  products: 2_000,
  orders: 30_000,
  linesPerOrder: 3,
  stock: 4_000,
  clicks: 40_000,
  baskets: 50,
  shipments: 20_000,
  documents: 300,
  allTypes: 2_000,
  odd: 500,
} as const;

/** Creates schema `shop` in the database and fills it, in one transaction. `scale` multiplies the rows. */
export async function createShop(config: ConnectionConfig, scale = 1): Promise<void> {
  const schema = await readFile(new URL("shop-schema.sql", import.meta.url), "utf8");
  const client = await connect(config, { applicationName: "pg-flo demo fill", statementTimeoutMs: 0 });
  try {
    await client.query("begin");
    await client.query(schema);
    for (const statement of fillStatements(scale)) await client.query(statement);
    await client.query("commit");
    await client.query("analyze");
  } finally {
    await client.end();
  }
}

/** Statements in the order of foreign keys. Values come from row numbers, so the rows are the same every time. */
function fillStatements(scale: number): readonly string[] {
  const rows = (count: number) => `generate_series(1, ${Math.max(1, Math.round(count * scale))}) n`;
  const count = (name: keyof typeof shopCounts) => Math.max(1, Math.round(shopCounts[name] * scale));
  return [
    `insert into shop.customers (email, name, tier, balance, country, created_at)
     select 'customer' || n || '@example.com', 'Customer ' || n || case when n % 7 = 0 then ' Müller 王' else '' end,
       (enum_range(null::shop.customer_tier))[1 + n % 4], 1000 + n % 500,
       (array['DE', 'FR', 'JP', 'US', 'BR', null])[1 + n % 6], timestamptz '2024-01-01' + n * interval '37 seconds'
     from ${rows(shopCounts.customers)}`,
    `insert into shop.products (name, price, tags, attributes, weight_kg)
     select 'Product ' || n, (n * 7919 % 100000) / 100.0,
       case n % 4 when 0 then null when 1 then '{}' else array['tag ' || n % 10, null, 'quote " comma ,'] end,
       jsonb_build_object('color', (array['red', 'green', 'blue'])[1 + n % 3], 'size', n % 50, 'parts', jsonb_build_array(n, null)),
       n / 3.0
     from ${rows(shopCounts.products)}`,
    `insert into shop.orders (customer_id, status, total, placed_at, note)
     select 1 + n::bigint * 7907 % ${count("customers")}, (enum_range(null::shop.order_status))[1 + n % 4],
       (n::bigint * 104729 % 5000000) / 100.0, timestamptz '2024-01-01' + n * interval '11 minutes',
       case when n % 5 = 0 then 'please ring twice ' || n end
     from ${rows(shopCounts.orders)}`,
    `insert into shop.order_lines
     select n, line, 1 + (n::bigint * 31 + line * 17) % ${count("products")}, 1 + (n + line) % 9, (n % 9000 + line) / 100.0
     from ${rows(shopCounts.orders)}, generate_series(1, ${shopCounts.linesPerOrder}) line`,
    `insert into shop.stock
     select n % 4, n, 1 + n % ${count("products")}, n % 100, date '2025-01-01' + n % 300
     from ${rows(shopCounts.stock)}`,
    `insert into shop.clicks
     select timestamptz '2025-01-01' + (n / 2) * interval '1 second', nullif(n % 1000, 0), '/page/' || n / 2 % 50, n / 2 % 700
     from ${rows(shopCounts.clicks)}`,
    `insert into shop.baskets select n, n, jsonb_build_array(n) from ${rows(shopCounts.baskets)}`,
    `insert into shop.shipments (order_id, shipped_on, carrier, weight_kg)
     select n, date '2024-06-01' + n % 700, (array['slow', 'fast', 'pigeon'])[1 + n % 3], n / 7.0
     from ${rows(shopCounts.shipments)}`,
    `insert into shop.documents (id, title, version, body, metadata, scan)
     select ${documentId("n")}, 'Document ' || n, 1, ${longText("n", 400)},
       jsonb_build_object('pages', n % 90, 'text', ${longText("n + 1", 300)}),
       case when n % 3 = 0 then decode(${longText("n + 2", 300)}, 'hex') end
     from ${rows(shopCounts.documents)}`,
    `insert into shop.all_types select n, ${allTypesSelect("n")} from ${rows(shopCounts.allTypes)}`,
    `insert into shop."Odd ""Names"".Tablé"
     select n, 'Row ' || n, 'a.b.' || n, n / 8.0, n % 2 = 0, repeat('語', n % 5), timestamp '2025-01-01' + n * interval '1 hour', null
     from ${rows(shopCounts.odd)}`,
  ];
}

/** SQL of a document's id, from the SQL of its number. */
export function documentId(number: string): string {
  return `md5('document ' || (${number}))::uuid`;
}

/** SQL of hexadecimal text that does not compress: `pieces` times 32 characters. */
export function longText(seed: string, pieces: number): string {
  return `(select string_agg(md5(((${seed}) * 1000 + piece)::text), '') from generate_series(1, ${pieces}) piece)`;
}
