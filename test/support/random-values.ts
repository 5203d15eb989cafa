// SQL of random values, by column type, for Postgres to make: ordinary ones, and those at the edges of a type.

export const functionsSql = `
  create type mood as enum ('sad', 'ok', 'Größe, "happy"', 'null', '');
  create domain money_amount as numeric(10,2);
  create domain short as varchar(8);
  create function rnd(n bigint) returns bigint language sql volatile as 'select floor(random() * n)::bigint';
  create function digits(n bigint) returns text language sql volatile as
    $$ select coalesce(string_agg(rnd(10)::text, ''), '') from generate_series(1, n) $$;
  create function letters(n bigint) returns text language sql volatile as $$
    select coalesce(string_agg(chr((case rnd(5) when 0 then 160 + rnd(55000) when 1 then 65536 + rnd(1000000)
      when 2 then (array[9, 10, 13, 34, 39, 44, 92, 123, 125, 1, 127])[1 + rnd(11)] else 32 + rnd(95) end)::int), ''), '')
    from generate_series(1, n) $$;
  create function one_of(variadic list text[]) returns text language sql volatile as 'select list[1 + rnd(cardinality(list))]';
  create function float4_bits() returns float4 language sql volatile as $$
    select ((rnd(2) * 2 - 1) * (case rnd(3) when 0 then 1 else rnd(16777216) end) * power(2::float8, rnd(253) - 149))::float4 $$;
  create function float8_bits() returns float8 language sql volatile as $$
    select (rnd(2) * 2 - 1) * (case rnd(3) when 0 then 1 else rnd(9007199254740992) end) * power(2::float8, rnd(2040) - 1074) $$;`;

const oddFloats = `one_of('NaN', 'Infinity', '-Infinity', '-0', '0', '1', '-1', '0.1', '1e-5', '0.0001', '123456', '1e6', '1e15', '1e16', '16777216', '1e23')`;

/** Column type to SQL of a random value: the types that tables mostly have. */
export const commonTypes: Readonly<Record<string, string>> = {
  bool: `rnd(2) = 0`,
  int2: `rnd(65536) - 32768`,
  int4: `case rnd(3) when 0 then rnd(9) - 4 else rnd(4294967296) - 2147483648 end`,
  int8: `case rnd(5) when 0 then rnd(9) - 4 when 1 then 9223372036854775807 when 2 then -9223372036854775808
    else (rnd(4294967296) - 2147483648) * 4294967296 + rnd(4294967296) end`,
  oid: `rnd(4294967296)`,
  float4: `case rnd(4) when 0 then ${oddFloats}::float4 when 1 then (random() * 1000)::numeric(9,3)::float4 else float4_bits() end`,
  float8: `case rnd(4) when 0 then ${oddFloats}::float8 when 1 then (random() * 1000)::numeric(9,3)::float8 else float8_bits() end`,
  numeric: `case rnd(5) when 0 then one_of('NaN', 'Infinity', '-Infinity', '0', '0.00', '1e-18', '1e-19', '1e18', '-0.000000000000000001',
      '99999999999999999999.999999999999999999', '-99999999999999999999.999999999999999999', '100000000000000000000',
      '9999', '10000', '-10000', '0.0001', '1e-1000', '1e1000', '12345678901234567890.1234567890123456780000')::numeric
    when 1 then (digits(1 + rnd(200)) || '.' || digits(rnd(60)))::numeric
    when 2 then round((random() * 1e6)::numeric, 2)
    else (one_of('', '-') || digits(1 + rnd(20)) || '.' || digits(rnd(18)) || one_of('', '0', '000000'))::numeric end`,
  "numeric(4,1)": `case rnd(9) when 0 then 'NaN' when 1 then 999.9 when 2 then -999.9 else (one_of('', '-') || digits(rnd(4)) || '.' || digits(1))::numeric end`,
  "numeric(9,2)": `case rnd(9) when 0 then 'NaN' when 1 then -9999999.99 else (one_of('', '-') || digits(rnd(8)) || '.' || digits(2))::numeric end`,
  "numeric(18,6)": `case rnd(9) when 0 then 'NaN' when 1 then 999999999999.999999 else (one_of('', '-') || digits(rnd(13)) || '.' || digits(1 + rnd(6)))::numeric end`,
  "numeric(18,0)": `case rnd(4) when 0 then 1e17 when 1 then -999999999999999999 else (one_of('', '-') || digits(1 + rnd(18)))::numeric end`,
  "numeric(19,4)": `case rnd(4) when 0 then -999999999999999.9999 else (one_of('', '-') || digits(rnd(16)) || '.' || digits(4))::numeric end`,
  "numeric(29,11)": `(one_of('', '-') || digits(rnd(19)) || '.' || digits(1 + rnd(11)))::numeric`,
  "numeric(38,10)": `case rnd(4) when 0 then -9999999999999999999999999999.9999999999 else (one_of('', '-') || digits(rnd(29)) || '.' || digits(1 + rnd(10)))::numeric end`,
  "numeric(38,0)": `case rnd(4) when 0 then 10::numeric ^ 37 else (one_of('', '-') || digits(1 + rnd(38)))::numeric end`,
  "numeric(38,38)": `(one_of('', '-') || '0.' || digits(1 + rnd(38)))::numeric`,
  "numeric(5,-2)": `(one_of('', '-') || digits(1 + rnd(5)) || '00')::numeric`,
  "numeric(3,5)": `('0.00' || digits(1 + rnd(3)))::numeric`,
  "numeric(60,20)": `(one_of('', '-') || digits(rnd(40)) || '.' || digits(1 + rnd(20)))::numeric`,
  money_amount: `case rnd(9) when 0 then 'NaN' else (digits(rnd(8)) || '.' || digits(2))::numeric end`,
  date: `case rnd(6) when 0 then one_of('infinity', '-infinity', '0001-01-01', '0001-12-31 BC', '9999-12-31', '10000-01-01', '4713-01-01 BC', '5874897-12-31')::date
    when 1 then date '2000-01-01' - 2451545 + rnd(2147483647)::int when 2 then date '0001-01-01' + (rnd(1000) - 500)::int
    else date '2000-01-01' + (rnd(40000) - 20000)::int end`,
  time: `case rnd(4) when 0 then one_of('24:00', '00:00', '23:59:59.999999', '12:00:00.1')::time when 1 then make_time(rnd(24)::int, rnd(60)::int, rnd(60))
    else '00:00'::time + rnd(86400000000) * interval '1 microsecond' end`,
  timestamp: `case rnd(6) when 0 then one_of('infinity', '-infinity', '0001-01-01', '0001-12-31 23:59:59.999999 BC', '9999-12-31 23:59:59.999999',
      '10000-01-01', '4713-01-01 BC', '294276-12-31 23:59:59.999999', '294247-01-10 04:00:54.775808')::timestamp
    when 1 then timestamp '2000-01-01' + rnd(106000000) * interval '1 day' + rnd(86400000000) * interval '1 microsecond'
    when 2 then timestamp '0001-01-01' + (rnd(1000) - 500) * interval '1 day' - rnd(86400000000) * interval '1 microsecond'
    else timestamp '2000-01-01' + (rnd(40000) - 20000) * interval '1 day' + rnd(86400000000) * interval '1 microsecond' end`,
  uuid: `md5(random()::text)::uuid`,
  bytea: `decode(one_of('', 'ff', '00', '5c') || substr(md5(random()::text) || md5(random()::text), 1, (rnd(33) * 2)::int), 'hex')`,
  text: `case rnd(9) when 0 then one_of('', ' ', 'NULL', 'null', '\\N', '\\', '"', '{}', 'a,b') when 1 then letters(rnd(300)) else letters(rnd(12)) end`,
  "varchar(12)": `letters(rnd(13))`,
  short: `letters(rnd(9))`,
  "char(6)": `letters(rnd(7))`,
  name: `left(md5(random()::text), rnd(33)::int)`,
  json: `json_build_object(letters(rnd(5)), letters(rnd(9)), 'n', rnd(1000), 'list', array[random(), null])`,
  jsonb: `jsonb_build_object(letters(rnd(5)), letters(rnd(9)), 'n', (digits(1 + rnd(30)))::numeric, 'list', array[random(), null])`,
  xml: `xmlelement(name a, translate(letters(rnd(9)), chr(1), ''))`,
  mood: `one_of('sad', 'ok', 'Größe, "happy"', 'null', '')::mood`,
};

/** SQL of an array of a column's value and those of its neighbours in window `w`: NULL, empty, of more dimensions too. */
export function arrayOfNeighboursSql(value: string): string {
  return `case rnd(9) when 0 then '{}' when 1 then null when 2 then array[${value}]
    when 3 then array[array[${value}, lead(${value}, 1) over w], array[null, ${value}]]
    when 4 then array_fill(${value}, array[1 + rnd(3)::int], array[rnd(4)::int - 2])
    when 5 then array_fill(${value}, array[2, 1, 2], array[1, 0, 5])
    else array[${value}, null, lead(${value}, 1) over w, lead(${value}, 2) over w] end`;
}
