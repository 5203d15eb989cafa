// The tables that benchmarks copy and change.

export interface BenchTable {
  readonly name: string;
  readonly columns: string;
  /** SELECT list over `g`, the row's number. */
  readonly values: string;
  /** Rows for each million that the benchmark is asked for. */
  readonly share: number;
}

export const benchTables: readonly BenchTable[] = [
  {
    name: "ten",
    share: 1,
    columns: `id bigint primary key, qty int, name text, created timestamptz, amount numeric(12,2), doc jsonb,
      uid uuid, active bool, score double precision, status varchar(20)`,
    values: `g, (random() * 1000000)::int, 'customer name number ' || g % 100000,
      timestamptz '2024-01-01' + g * interval '1 second', (random() * 100000)::numeric(12,2),
      jsonb_build_object('a', g % 100, 'b', 'value ' || g % 1000, 'c', jsonb_build_array(1, 2, 3)),
      gen_random_uuid(), g % 3 = 0, random(), 'status_' || g % 7`,
  },
  {
    name: "wide",
    share: 0.1,
    columns: `id bigint primary key, ${names(100, (n) => `c${n} ${["int", "text", "numeric(14,4)", "timestamp"][n % 4]}`)}`,
    values: `g, ${names(100, (n) => ["g % 1000", `'text ' || (g + ${n}) % 5000`, `(g * ${n} % 100000)::numeric / 16`, `timestamp '2020-01-01' + g * interval '1 min'`][n % 4]!)}`,
  },
  { name: "narrow", share: 3, columns: "id int primary key, value int", values: "g, g % 1000" },
  {
    name: "texts",
    share: 0.4,
    columns: "id bigint primary key, title text, body text",
    values: `g, 'Title of article ' || g, repeat(md5(g::text) || ' lorem ipsum dolor sit amet ', 10)`,
  },
  {
    name: "toasted",
    share: 0.1,
    columns: `id bigint primary key, qty int, status varchar(20), ${names(20, (n) => `c${n} ${["int", "text"][n % 2]}`)},
      doc jsonb, body text`,
    values: `g, g % 1000, 'status_' || g % 7, ${names(20, (n) => ["g % 1000", `'text ' || (g + ${n}) % 5000`][n % 2]!)},
      jsonb_build_object('a', g % 100, 'b', md5(g::text)), (select string_agg(md5((g * piece)::text), '') from generate_series(1, 128) piece)`,
  },
];

function names(count: number, make: (n: number) => string): string {
  return Array.from({ length: count }, (_, n) => make(n)).join(", ");
}

/** Statements that make and fill the table. */
export function fillStatements(table: BenchTable, rowCount: number): string[] {
  return [
    `create table ${table.name} (${table.columns})`,
    ...(table.name === "toasted" ? ["alter table toasted alter body set storage external"] : []),
    `insert into ${table.name} select ${table.values} from generate_series(1, ${rowCount}) g`,
    `vacuum (freeze, analyze) ${table.name}`,
  ];
}
