// A random schema: tables of every kind of identity, with columns in any order. Two of them are accounts, whose sum never
// changes.
import type { Random } from "./random.ts";

export const kinds = [
  "keyed",
  "composite",
  "by index",
  "full with key",
  "full",
  "none",
  "nothing",
  "partitioned",
  "parent",
  "child",
  "accounts",
] as const;
export type Kind = (typeof kinds)[number];

export interface Table {
  readonly name: string;
  readonly kind: Kind;
  /** In the table's order. */
  readonly columns: readonly string[];
  /** By which the log names a row. Empty: rows are told apart by nothing but their values, or not at all. */
  readonly key: readonly string[];
  /** The log tells updates and deletes. */
  readonly updates: boolean;
  readonly ddl: string;
}

const types: Readonly<Record<string, string>> = {
  id: "int not null",
  k: "text not null",
  n: "int not null default 0",
  big: "text",
  other: "text",
  x: "text",
  flag: "boolean",
  amount: "numeric(10,2)",
  day: "date",
  balance: "bigint not null",
  grants: "aclitem", // has no binary form: the whole stream comes as text
};

const keys: Readonly<Record<Kind, readonly string[]>> = {
  keyed: ["id"],
  composite: ["k", "id"],
  "by index": ["id"],
  "full with key": ["id"],
  full: [],
  none: [],
  nothing: [],
  partitioned: ["id"],
  parent: ["id"],
  child: ["id"],
  accounts: ["id"],
};

/** `prefix`: of their names, which tell the histories of a database apart. */
export function randomTables(random: Random, prefix: string, asText: boolean): Table[] {
  const simple = kinds.filter((kind) => !["parent", "child", "accounts"].includes(kind));
  const chosen: Kind[] = ["accounts", "accounts"];
  for (let count = 2 + random.below(4); count > 0; count--) chosen.push(random.pick(simple));
  if (random.chance(0.4)) chosen.push("parent", "child");
  return chosen.map((kind, at) => randomTable(random, kind, `${prefix}${at}`, asText && at === 0));
}

export function randomTable(random: Random, kind: Kind, name: string, asText = false): Table {
  const own = kind === "accounts" ? ["id", "balance"] : ["id", "n", "big"];
  if (kind === "composite") own.push("k");
  for (const more of ["other", "x", "flag", "amount", "day"]) {
    if (kind !== "accounts" && random.chance(0.35)) own.push(more);
  }
  if (asText) own.push("grants");
  const columns = own
    .map((column) => ({ column, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ column }) => column);
  const updates = kind !== "none" && kind !== "nothing";
  return { name, kind, columns, key: keys[kind], updates, ddl: ddlOf(random, name, kind, columns) };
}

function ddlOf(random: Random, name: string, kind: Kind, columns: readonly string[]): string {
  const list = columns.map((column) => `${column} ${types[column]}`);
  const storage =
    columns.includes("big") && random.chance(0.8) ? `alter table ${name} alter big set storage external;` : "";
  const keyed = (key: string): string => `create table ${name} (${list.join(", ")}, primary key (${key})); ${storage}`;
  switch (kind) {
    case "composite":
      return keyed(random.chance(0.5) ? "k, id" : "id, k");
    case "by index":
      return `create table ${name} (${list.join(", ")}); ${storage} create unique index ${name}_id on ${name} (id);
        alter table ${name} replica identity using index ${name}_id`;
    case "full with key":
      return `${keyed("id")} alter table ${name} replica identity full`;
    case "full":
      return `create table ${name} (${list.join(", ")}); ${storage} alter table ${name} replica identity full`;
    case "none":
      return `create table ${name} (${list.join(", ")}); ${storage}`;
    case "nothing":
      return `${keyed("id")} alter table ${name} replica identity nothing`;
    case "partitioned":
      return `create table ${name} (${list.join(", ")}, primary key (id)) partition by range (id);
        create table ${name}_low partition of ${name} for values from (minvalue) to (4);
        create table ${name}_mid partition of ${name} for values from (4) to (8) partition by range (id);
        create table ${name}_mid_a partition of ${name}_mid for values from (4) to (6);
        create table ${name}_mid_b partition of ${name}_mid for values from (6) to (8);
        create table ${name}_rest partition of ${name} default`;
    case "child": {
      return `${keyed("id")} alter table ${name} add foreign key (n) references ${parentOf(name)} deferrable initially deferred`;
    }
    default:
      return keyed("id");
  }
}

/** The table before a child is its parent. */
export function parentOf(name: string): string {
  return name.replace(/\d+$/, (number) => String(Number(number) - 1));
}
