// SQL expressions for shop.all_types: ordinary values, and the ones at the edges of each type.

/** Per column of shop.all_types after `id`, in order: an ordinary value from the number `#`, then values at its edges. */
const allTypesColumns: readonly (readonly [column: string, ordinary: string, ...edges: string[]])[] = [
  ["bool", "# % 2 = 0"],
  ["int2", "(# % 30000)::int2", "'-32768'", "'32767'"],
  ["int4", "# * 31", "'-2147483648'", "'2147483647'"],
  ["int8", "#::bigint * 4000000007", "'-9223372036854775808'", "'9223372036854775807'"],
  ["oid", "#::oid", "'4294967295'"],
  ["float4", "(# / 3.0)::float4", "'NaN'", "'Infinity'", "'-0'", "'1e-45'"],
  ["float8", "(# / 7.0)::float8", "'NaN'", "'-Infinity'", "'-0'", "'1.7976931348623157e308'", "'5e-324'"],
  ["numeric", "# / 11.0", "'NaN'", "'Infinity'", "'-12345678901234567890123456789012345678901234.5'", "'1e-30'", "'0'"],
  ["numeric_8_2", "# / 100.0", "'NaN'", "'999999.99'", "'-999999.99'"],
  ["numeric_12_2", "# / 100.0", "'NaN'", "'9999999999.99'", "'-0.01'"],
  ["numeric_38_10", "# * 1234567.0000000001", "'NaN'", "'9999999999999999999999999999.9999999999'"],
  ["text", "'text ' || #", "''", "E'tab\\t newline\\n back\\\\slash'", "'Zürich 東京 🦆'", "repeat('long ', 500)"],
  ["varchar", "'varchar ' || #", "''", "'ends with blanks   '"],
  ["bpchar", "'c' || # % 1000", "''", "'ab      '"],
  ["name", "'name' || #", "'a_name_of_sixty_three_bytes_which_is_the_longest_that_there_is_'"],
  ["bytea", "decode(md5((#)::text), 'hex')", "''", "'\\x00'", "'\\xdeadbeef00ff'"],
  ["date", "date '2000-01-01' + #", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'9999-12-31'", "'12345-06-07'"],
  ["time", "time '00:00' + # * interval '7.000001 seconds'", "'24:00:00'", "'00:00:00'", "'23:59:59.999999'"],
  [
    "timestamp",
    "timestamp '2000-01-01' + # * interval '1.000001 hours'",
    "'infinity'",
    "'-infinity'",
    "'0044-03-15 12:00 BC'",
    "'294276-12-31 23:59:59.999999'",
    "'1969-12-31 23:59:59.999999'",
  ],
  [
    "timestamptz",
    "timestamptz '2000-01-01' + # * interval '1.000001 hours'",
    "'infinity'",
    "'-infinity'",
    "'0001-01-01 00:00+14'",
    "'9999-12-31 23:59:59.999999+00'",
    "'10000-01-01'",
  ],
  ["uuid", "md5((#)::text)::uuid", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
  ["json", "json_build_object('n', #)", '\' { "a" : 1, "a" : 2 } \'', "'\"\\u0000\"'", "'null'"],
  ["jsonb", "jsonb_build_object('n', #)", "'123456789012345678901234567890.5'", "'[]'", "'null'", '\'"\\"ü"\''],
  ["tier", "(enum_range(null::shop.customer_tier))[1 + # % 4]"],
  ["price", "# % 90000 / 100.0", "'0'", "'9999999999.99'"],
  ["country", "'DE'", "'x'"],
  ["label", "'label ' || #", "''"],
  ["bools", "array[true, null, false]", "'{}'"],
  ["int2s", "array[1, (# % 9)::int2, null]::int2[]", "'{}'", "'{-32768,32767}'"],
  ["int4s", "array[#, null, -#]", "'{}'", "'{{1,2},{3,4}}'", "'[5:7]={1,2,3}'"],
  ["int8s", "array[#::bigint * 4000000007]", "'{}'", "'{-9223372036854775808,9223372036854775807}'"],
  ["oids", "array[#::oid]", "'{}'", "'{4294967295,NULL}'"],
  ["float4s", "array[# / 3.0]::float4[]", "'{}'", "'{NaN,Infinity,-0,NULL}'"],
  ["float8s", "array[# / 7.0]::float8[]", "'{}'", "'{NaN,-Infinity,-0,NULL}'"],
  ["numerics", "array[# / 11.0, null]", "'{}'", "'{NaN,1}'", "'{1e40,2}'"],
  ["numerics_12_2", "array[# / 100.0, null]", "'{}'", "'{NaN,1.25}'"],
  ["texts", "array['text ' || #, null, '']", "'{}'", '\'{"comma, quote \\" back\\\\slash",NULL,"NULL"}\''],
  ["varchars", "array['v' || #]", "'{}'"],
  ["byteas", "array[decode(md5((#)::text), 'hex'), null]", "'{}'", "array[''::bytea]"],
  ["dates", "array[date '2000-01-01' + #, null]", "'{}'", "'{infinity,2000-01-01}'"],
  ["times", "array[time '00:00' + # * interval '1 second']", "'{}'", "'{24:00:00}'"],
  ["timestamps", "array[timestamp '2000-01-01' + # * interval '1 hour']", "'{}'", "'{-infinity}'"],
  ["timestamptzs", "array[timestamptz '2000-01-01' + # * interval '1 hour']", "'{}'", "'{infinity,NULL}'"],
  ["uuids", "array[md5((#)::text)::uuid, null]", "'{}'"],
  ["jsons", "array[json_build_object('n', #)]", "'{}'"],
  ["jsonbs", "array[jsonb_build_object('n', #), null]", "'{}'"],
  ["tiers", "enum_range(null::shop.customer_tier)", "'{}'"],
  ["prices", "array[# % 90000 / 100.0]::shop.price[]", "'{}'"],
  ["interval", "# * interval '1 month 2 days 03:04:05.000006'", "'0'", "'-1 month +1 day -00:00:01'"],
  ["inet", "'10.0.0.0'::inet + #", "'::1/64'"],
  ["timetz", "timetz '00:00+02' + # * interval '1 second'", "'24:00:00+14'"],
  ["int4range", "int4range(#, # + 10)", "'empty'", "'(,5]'"],
  ["point", "point(#, -#)", "'(NaN,Infinity)'"],
  ["varbit", "(# % 256)::bit(8)", "''"],
  ["tsvector", "to_tsvector('simple', 'word' || #)", "''"],
  ["money", "(#)::money", "'-92233720368547758.08'"],
];

/** Domains that refuse NULL. */
const neverNull = new Set(["label"]);

/**
 * A select list for shop.all_types without `id`. Most values are ordinary; one row in five holds NULL or an edge in
 * each column, another one for each column. `number` is SQL of a positive integer.
 */
export function allTypesSelect(number: string): string {
  return allTypesColumns.map((_, index) => allTypesValue(index, number)).join(", ");
}

/** An assignment `"column" = value` for a column chosen by `index`. */
export function allTypesAssignment(index: number, number: string): string {
  const chosen = index % allTypesColumns.length;
  return `"${allTypesColumns[chosen]?.[0]}" = ${allTypesValue(chosen, number)}`;
}

function allTypesValue(index: number, number: string): string {
  const [column, ordinary, ...edges] = allTypesColumns[index] ?? ["", "null"];
  const choices = neverNull.has(column) ? edges : ["null", ...edges];
  const turn = `((${number}) / 5 + ${index}) % ${choices.length}`;
  const branches = choices.map((choice, at) => `when ${turn} = ${at} then ${choice}`).join(" ");
  // One CASE, so that the quoted edges take the type of the ordinary value.
  return `case when (${number}) % 5 <> 0 then ${ordinary.replaceAll("#", `(${number})`)} ${branches} end`;
}
