// Random statements. A step is several statements that belong together: between them nobody takes a savepoint.
import type { Random } from "./random.ts";
import { parentOf, type Table } from "./schema.ts";

const IDS = 12;

/** Statements for one step on one table, or on several. Some of them fail now and then, as an application's do. */
export function randomStep(random: Random, tables: readonly Table[]): string[] {
  const accounts = tables.filter(({ kind }) => kind === "accounts");
  if (random.chance(0.2)) return transfer(random, accounts[0]!.name, accounts[1]!.name);
  const table = random.pick(tables.filter(({ kind }) => kind !== "accounts"));
  if (random.chance(0.04)) return [truncate(random, table, tables)];
  if (!table.updates) return [insert(random, table, 1 + random.below(3))];
  const make = random.pick(steps);
  return make(random, table);
}

/** The rows that a table has when the history begins. */
export function firstRows(random: Random, table: Table): string {
  const count = random.pick([0, 1, 5, IDS, IDS, 60]);
  return insert(random, table, count, 0);
}

type Step = (random: Random, table: Table) => string[];

const steps: readonly Step[] = [
  (random, table) => [insert(random, table, 1 + random.below(3))],
  (random, table) => [insert(random, table, random.pick([1, 4, 30]))],
  (random, table) => [update(random, table)],
  (random, table) => [update(random, table)],
  (random, table) => [update(random, table)],
  (random, table) => [`delete from ${table.name} where ${which(random, table)}`],
  (random, table) => [move(random, table)],
  (random, table) => [move(random, table)],
  swap,
  chain,
  reinsert,
  upsert,
  inLoop,
  withExceptions,
];

function id(random: Random): number {
  return random.below(IDS);
}

/** One row, some, or all of a table. */
function which(random: Random, { name, key }: Table): string {
  const some = random.below(10);
  if (some === 0) return "true";
  if (some < 4) return `id % ${2 + random.below(4)} = ${random.below(2)}`;
  if (key.length > 0 || some < 7) return `id = ${id(random)}`;
  // One of several rows that may be equal in all of their columns.
  return `ctid = (select ctid from ${name} order by id, n, ctid limit 1 offset ${random.below(4)})`;
}

function text(random: Random): string {
  return random.pick(["''", "'a'", "'it''s'", `'v${random.below(1000)}'`, "'ä€😀'", "null"]);
}

/** Small, or so large that it is TOASTed; a few make the server stream the transaction. */
function big(random: Random): string {
  if (random.chance(0.4)) return text(random);
  return `repeat(md5('${random.below(100_000)}'), ${random.pick([70, 90, 300, 900])})`;
}

function value(random: Random, column: string): string {
  switch (column) {
    case "n":
      return String(id(random));
    case "big":
      return big(random);
    case "k":
      return random.pick(["'a'", "'b'", `'${"long".repeat(20)}'`]);
    case "flag":
      return random.pick(["true", "false", "null"]);
    case "amount":
      return random.pick(["0", "1.5", "-12345678.91", "null"]);
    case "day":
      return random.pick(["'2024-02-29'", "'1970-01-01'", "'0044-03-15'", "null"]);
    case "grants":
      return random.pick(["'postgres=r/postgres'", "null"]);
    default:
      return text(random);
  }
}

function insert(random: Random, table: Table, count: number, from = id(random)): string {
  const values = table.columns.map((column) =>
    column === "id" ? `(${from} + g) % 1000` : valueIn(random, table, column),
  );
  return `insert into ${table.name} (${table.columns.join(", ")})
    select ${values.join(", ")} from generate_series(0, ${count - 1}) g${table.kind === "child" ? ` where exists (select from ${parentOf(table.name)})` : ""}
    on conflict do nothing`;
}

function valueIn(random: Random, table: Table, column: string): string {
  if (column === "balance") return "100";
  if (column === "n" && table.kind === "child") return `(select min(id) from ${parentOf(table.name)})`;
  return `(${value(random, column)})${column === "grants" ? "::aclitem" : ""}${column === "day" ? "::date" : ""}`;
}

function assignments(random: Random, table: Table): string {
  const free = table.columns.filter(
    (column) => !["id", "k"].includes(column) && !(column === "n" && table.kind === "child"),
  );
  const chosen = free.filter(() => random.chance(0.4));
  const all = chosen.length > 0 ? chosen : [free[random.below(free.length)]!];
  return all
    .map((column) => {
      if (column === "n") return "n = n + 1";
      if (column === "big" && random.chance(0.3)) return "big = big || 'x'";
      return `${column} = ${valueIn(random, table, column)}`;
    })
    .join(", ");
}

function update(random: Random, table: Table): string {
  return `update ${table.name} set ${assignments(random, table)} where ${which(random, table)}`;
}

/** To another key, with a change beside it or without. */
function move(random: Random, table: Table): string {
  const { name, kind } = table;
  const beside = random.chance(0.5) ? `, ${assignments(random, table)}` : "";
  if (kind === "composite" && random.chance(0.5))
    return `update ${name} set k = ${value(random, "k")}${beside} where id = ${id(random)}`;
  const to = random.chance(0.3) ? 100 + random.below(800) : id(random);
  const free = random.chance(0.8) ? ` and not exists (select from ${name} where id = ${to})` : "";
  return `update ${name} set id = ${to}${beside} where id = ${id(random)}${free}`;
}

function swap(random: Random, { name }: Table): string[] {
  const [a, b] = [id(random), id(random)];
  return [
    `update ${name} set id = 10000 where id = ${a}`,
    `update ${name} set id = ${a} where id = ${b}`,
    `update ${name} set id = ${b} where id = 10000`,
  ];
}

/** Every row takes the next one's key. */
function chain(_: Random, { name }: Table): string[] {
  return [`update ${name} set id = -1 - id where id between 0 and 20`, `update ${name} set id = -id where id < 0`];
}

function reinsert(random: Random, table: Table): string[] {
  const key = id(random);
  const again = insert(random, table, 1, key);
  return random.chance(0.3)
    ? [`delete from ${table.name} where id = ${key}`, again, `delete from ${table.name} where id = ${key}`]
    : [`delete from ${table.name} where id = ${key}`, again];
}

function upsert(random: Random, table: Table): string[] {
  if (table.kind === "full") return [update(random, table)];
  const target = table.kind === "composite" ? "k, id" : "id";
  const plain = insert(random, table, random.pick([1, 3])).replace("on conflict do nothing", "");
  return [
    `${plain} on conflict (${target}) do update set ${assignments(random, table).replaceAll(/\bn \+ 1|\bbig \|\|/g, `${table.name}.$&`)}`,
  ];
}

function inLoop(random: Random, table: Table): string[] {
  return [`do $$ begin for i in 1..${random.pick([3, 20, 100])} loop ${update(random, table)}; end loop; end $$`];
}

/** Subtransactions, every other one rolled back. */
function withExceptions(random: Random, table: Table): string[] {
  return [
    `do $$ begin for i in 1..${random.pick([2, 5])} loop begin ${random.pick([update, move])(random, table)};
      ${insert(random, table, 2)}; if i % 2 = ${random.below(2)} then raise exception 'no'; end if;
      exception when others then null; end; end loop; end $$`,
  ];
}

function transfer(random: Random, from: string, to: string): string[] {
  const amount = random.below(50);
  const row = (name: string) => `id = (select id from ${name} order by id limit 1 offset ${random.below(4)})`;
  const moved = [
    `do $$ begin
       update ${from} set balance = balance - ${amount} where ${row(from)}; if not found then raise exception 'empty'; end if;
       update ${to} set balance = balance + ${amount} where ${row(to)}; if not found then raise exception 'empty'; end if;
     end $$`,
  ];
  if (random.chance(0.3))
    moved.push(`update ${from} set id = id + 1000 where id < 3`, `update ${from} set id = id - 1000 where id >= 1000`);
  if (random.chance(0.2)) {
    moved.push(`do $$ declare was bigint; begin delete from ${to} where id = 2 returning balance into was;
      if found then insert into ${to} (id, balance) values (2, was); end if; end $$`);
  }
  return moved;
}

function truncate(random: Random, table: Table, tables: readonly Table[]): string {
  const others = tables.filter((each) => each !== table && each.kind !== "accounts" && random.chance(0.3));
  const names = [table, ...others].map(({ name }) => name).join(", ");
  const needsCascade = [table, ...others].some(({ kind }) => kind === "parent");
  return `truncate ${names}${needsCascade || random.chance(0.2) ? " cascade" : ""}`;
}
