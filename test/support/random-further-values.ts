// SQL of random values of the types that tables have less often: those of contrib extensions, and what users make of
// other types. Needs the functions of random-values.ts.

export const furtherFunctionsSql = `
  create extension hstore; create extension citext; create extension ltree; create extension cube;
  create type textrange as range (subtype = text, multirange_type_name = textmultirange);
  create type intervalrange as range (subtype = interval);
  create type arrayrange as range (subtype = text[]);
  create type inside as (x int2, "Y ""quoted""" text, z box[]);
  create type pair as (a int, "B b" text, c numeric(10,2)[], d timestamptz, e hstore, f jsonb, g float8, h interval,
    i inside, j inside[], k date, l bool, m bytea, n uuid, o mood, p textrange, q timestamp[], r char(4), s float4, t money,
    u int8, v json, w "char", x numeric, y time, z citext);
  create type one_field as (alone text);
  create type pairrange as range (subtype = one_field);
  create type no_field as ();
  create domain pair_domain as pair;
  create domain span_domain as int4range;
  create function coordinate() returns float8 language sql volatile as $$ select case rnd(5)
    when 0 then one_of('NaN', 'Infinity', '-Infinity', '-0', '0', '1', '-1.5', '0.1', '1e-5', '0.0001', '1e15', '9007199254740993', '1e23', '5e-324')::float8
    when 1 then (random() * 1000)::numeric(9,4)::float8 when 2 then float8_bits() when 3 then rnd(100) - 50 else random() * 360 - 180 end $$;
  create function place() returns point language sql volatile as 'select point(coordinate(), coordinate())';
  create function places(n bigint) returns text language sql volatile as $$
    select string_agg(place()::text, ',') from generate_series(1, n) $$;
  create function address() returns inet language sql volatile as $$ select case rnd(2)
    when 0 then concat(rnd(256), '.', rnd(256), '.', rnd(256), '.', rnd(256), '/', one_of('32', '24', '0', '17'))
    else (select string_agg(one_of('0', '0', '0', 'ffff', '1', to_hex(rnd(65536))), ':') from generate_series(1, 8)) ||
      '/' || one_of('128', '64', '0', '33') end::inet $$;
  create function lexeme() returns text language sql volatile as $$
    select '''' || replace(replace('x' || letters(rnd(5)), '\\', '\\\\'), '''', '''''') || '''' $$;
  create function query(n bigint) returns tsquery language plpgsql volatile as $$ begin
    if n = 0 or rnd(4) = 0 then return (lexeme() || one_of('', '', ':*', ':A', ':*BD', ':ABCD'))::tsquery; end if;
    return case rnd(4) when 0 then query(n - 1) && query(n - 1) when 1 then query(n - 1) || query(n - 1) when 2 then !! query(n - 1)
      else tsquery_phrase(query(n - 1), query(n - 1), (rnd(4) + 1)::int) end;
  end $$;
  create function bounds() returns text language sql volatile as $$ select one_of('[]', '()', '[)', '(]') $$;
  create function span() returns int4range language sql volatile as $$
    select int4range(case when rnd(5) > 0 then a end, case when rnd(5) > 0 then (a + rnd(9))::int end, bounds())
    from (select (rnd(2000000000) - 1000000000)::int as a offset 0) s $$;
  create function words() returns textrange language sql volatile as $$
    select textrange(case when rnd(5) > 0 then least(a, b) end, case when rnd(5) > 0 then greatest(a, b) end, bounds())
    from (select letters(rnd(5)) as a, letters(rnd(5)) as b offset 0) s $$;
  create function days() returns daterange language sql volatile as $$
    select daterange(case when rnd(5) > 0 then a end, case when rnd(5) > 0 then one_of((a + 9)::text, 'infinity')::date end, bounds())
    from (select date '2000-01-01' + (rnd(40000) - 20000)::int as a offset 0) s $$;
  create function moments() returns tstzrange language sql volatile as $$
    select tstzrange(case when rnd(5) > 0 then a end, case when rnd(5) > 0 then a + rnd(99) * interval '1 hour' end, bounds())
    from (select case rnd(5) when 0 then one_of('0044-03-15 BC', '-infinity', '20000-01-01', '1600-02-29 23:59:59.5')::timestamptz
      else timestamptz '2000-01-01' + (rnd(40000) - 20000) * interval '1 day' + rnd(86400000000) * interval '1 microsecond' end as a offset 0) s $$;
  create function amounts() returns numrange language sql volatile as $$
    select numrange(case when rnd(5) > 0 then a end, case when rnd(5) > 0 then a + rnd(1000) / 7.0 end, bounds())
    from (select (one_of('', '-') || digits(1 + rnd(30)) || '.' || digits(rnd(20)) || one_of('', '0', '000000'))::numeric as a offset 0) s $$;
  create function elapsed() returns interval language sql volatile as $$ select case rnd(4)
    when 0 then one_of('infinity', '-infinity', '0', '-1 mon +1 day -00:00:00.000001', '178956970 years 7 mons', '2562047788:00:54.775807', '-1 year -1 mon', '59.999999 sec', '-1 day')::interval
    when 1 then make_interval((rnd(20) - 10)::int, (rnd(20) - 10)::int, 0, (rnd(60) - 30)::int)
    when 2 then make_interval(0, 0, 0, (rnd(60) - 30)::int, (rnd(100) - 50)::int, (rnd(120) - 60)::int, (rnd(120000000) - 60000000) / 1e6)
    else make_interval((rnd(20) - 10)::int, (rnd(20) - 10)::int, 0, 0, (rnd(100) - 50)::int, 0, rnd(60)) end $$;
  create function notes() returns hstore language sql volatile as $$
    select coalesce(hstore(array_agg(letters(rnd(6))), array_agg(case when rnd(4) > 0 then letters(rnd(9)) end)), '')
    from generate_series(1, rnd(5)) $$;
  create function part() returns inside language sql volatile as $$
    select row(case when rnd(4) > 0 then rnd(9) end, case when rnd(4) > 0 then letters(rnd(9)) end,
      case when rnd(4) > 0 then array[box(place(), place()), null] end)::inside $$;
  create function whole() returns pair language sql volatile as $$
    select row(case when rnd(4) > 0 then rnd(9) - 4 end, case when rnd(4) > 0 then letters(rnd(9)) end,
      one_of('{}', null, '{{1.5,2},{3,null}}', '{NaN,-0.01}')::numeric(10,2)[],
      one_of('infinity', null, '0044-03-15 BC', '2024-02-29 12:34:56.789', '12345-01-01')::timestamptz, notes(),
      jsonb_build_object(letters(rnd(5)), letters(rnd(9)), 'n', digits(1 + rnd(30))::numeric), coordinate(), elapsed(), part(),
      case rnd(4) when 0 then null when 1 then '{}' else array[part(), null, part()] end,
      one_of('infinity', '2024-02-29', '0044-03-15 BC', null)::date, rnd(2) = 0, decode(md5(random()::text), 'hex'), md5(random()::text)::uuid,
      one_of('sad', null, 'Größe, "happy"')::mood, words(), one_of(null, '{2024-02-29 12:00:00,NULL,-infinity}')::timestamp[],
      letters(rnd(5)), float4_bits(), ((rnd(2000000) - 1000000) / 100.0)::money, rnd(4294967296) * 2147483647 - 9e17::bigint,
      json_build_array(letters(rnd(5)), null), (rnd(256) - 128)::int4::"char", one_of('NaN', '1e-30', '-Infinity', '1e30', '12.340')::numeric,
      one_of('24:00', '00:00:00.5')::time, letters(rnd(5)))::pair $$;`;

/** Column type to SQL of a random value. */
export const furtherTypes: Readonly<Record<string, string>> = {
  '"char"': `(rnd(256) - 128)::int4::"char"`,
  xid8: `one_of('18446744073709551615', '0', '9007199254740993', '1' || digits(rnd(19)))::xid8`,
  pg_lsn: `'0/0'::pg_lsn + digits(1 + rnd(19))::numeric`,
  tid: `('(' || rnd(4294967296) || ',' || rnd(65536) || ')')::tid`,
  pg_snapshot: `(select (a || ':' || a + 90 || ':' || one_of('', a + 5 || ',' || a + 7))::pg_snapshot from (select rnd(4294967296) * 1000000000 + i as a offset 0) s)`,
  txid_snapshot: `(select (a || ':' || a + 90 || ':' || one_of('', a + 5 || ',' || a + 7))::txid_snapshot from (select rnd(4294967296) + i as a offset 0) s)`,
  int2vector: `one_of('', '1', '-32768 32767 0')::int2vector`,
  oidvector: `one_of('', '1', '4294967295 0 17')::oidvector`,
  money: `case rnd(9) when 0 then one_of('-92233720368547758.08', '92233720368547758.07', '-0.01', '0')::money
    else ((rnd(4294967296) - 2147483648) * (1 + rnd(10000)) / 100.0)::money end`,
  timetz: `(one_of(('00:00'::time + rnd(86400000000) * interval '1 microsecond')::text, '24:00:00', '00:00:00') ||
    one_of('+00', '-08', '+05:30', '+15:59:59', '-12:00:01'))::timetz`,
  interval: `elapsed()`,
  inet: `address()`,
  cidr: `network(address())`,
  macaddr: `substr(md5(random()::text), 1, 12)::macaddr`,
  macaddr8: `substr(md5(random()::text), 1, 16)::macaddr8`,
  "bit(9)": `rnd(512)::int::bit(9)`,
  varbit: `left(rnd(4294967296)::bit(33)::text, rnd(34)::int)::varbit`,
  point: `place()`,
  line: `('{1,' || coordinate() || ',' || coordinate() || '}')::line`,
  lseg: `lseg(place(), place())`,
  box: `box(place(), place())`,
  path: `(one_of('[' || places(1 + rnd(4)) || ']', '(' || places(1 + rnd(4)) || ')'))::path`,
  polygon: `('(' || places(1 + rnd(4)) || ')')::polygon`,
  circle: `circle(place(), abs(coordinate()))`,
  tsvector: `case rnd(3) when 0 then to_tsvector('simple', letters(rnd(40))) when 1 then array_to_tsvector(array['x' || letters(rnd(5)), '''', '\\'])
    else setweight(to_tsvector('simple', 'a b a c'), one_of('A', 'B', 'C', 'D')::"char") || (lexeme() || ':' || 1 + rnd(16383) || 'B')::tsvector end`,
  tsquery: `case rnd(9) when 0 then '' else query(rnd(5)) end`,
  jsonpath: `one_of('$', '$.a[*] ? (@ > 1)', 'strict $.**{2 to last}.x', '$."Größe \\""')::jsonpath`,
  int4range: `span()`,
  int8range: `int8range(lower(span()), null, bounds())`,
  numrange: `amounts()`,
  daterange: `days()`,
  tsrange: `tsrange(lower(moments()) at time zone 'UTC', null, bounds())`,
  tstzrange: `moments()`,
  textrange: `words()`,
  intervalrange: `(select intervalrange(a, a + interval '1 day', bounds()) from (select elapsed() as a, i offset 0) s)`,
  arrayrange: `(select arrayrange(a, a || null, bounds()) from (select array[letters(3), null, letters(rnd(4))] as a, i offset 0) s)`,
  pairrange: `(select pairrange(row(a)::one_field, null, bounds()) from (select letters(rnd(5)) as a, i offset 0) s)`,
  span_domain: `span()`,
  int4multirange: `int4multirange(span(), span(), span())`,
  nummultirange: `nummultirange(amounts(), amounts())`,
  datemultirange: `datemultirange(days(), days())`,
  tstzmultirange: `tstzmultirange(moments(), moments())`,
  textmultirange: `textmultirange(words(), words())`,
  citext: `letters(rnd(9))::citext`,
  hstore: `notes()`,
  ltree: `one_of('', 'Top', 'Top.Science_' || rnd(99))::ltree`,
  lquery: `one_of('*.a', 'Top.*{0,2}.sport*@.!football|tennis.Russ*|Spain')::lquery`,
  ltxtquery: `one_of('Europe', 'Europe & Russia*@ & !Transportation')::ltxtquery`,
  cube: `case rnd(4) when 0 then cube(array[]::float8[]) when 1 then cube(random()) when 2 then cube(array[random(), rnd(9)])
    else cube(array[random(), rnd(9)], array[rnd(9), rnd(2)]) end`,
  inside: `part()`,
  pair: `whole()`,
  pair_domain: `whole()`,
  one_field: `row(one_of(null, '', letters(rnd(5))))::one_field`,
  no_field: `row()::no_field`,
};

/** SQL of what the file has of a value, in a session of IntervalStyle iso_8601 for intervals, else postgres. */
export function formSql(type: string, value: string): string {
  if (type === "money") return `(${value}::numeric * 100)::numeric(30, 0)::text`;
  // format() asks the output function; a cast of inet to text does not.
  return isJson(type) ? `to_json(${value})::text` : `case when ${value} is not null then format('%s', ${value}) end`;
}

/** The same for each element of an array of one dimension, as text[]. */
export function elementFormsSql(type: string, array: string): string {
  return isJson(type)
    ? `array(select case when e::text <> 'null' then e::text end from json_array_elements(to_json(${array})) e)`
    : `array(select ${formSql(type, "e")} from unnest(${array}) e)`;
}

function isJson(type: string): boolean {
  return ["hstore", "inside", "pair", "pair_domain", "one_field", "no_field"].includes(type);
}
