// biome-ignore-all lint/suspicious/noTemplateCurlyInString: ${NAME} is the config's own notation
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { MINIMAL, mistakesOf, parse, withKey } from "../../test/support/config-text.ts";
import { PgFloError } from "../base/errors.ts";
import { loadConfig } from "./load.ts";
import { starterConfig } from "./starter.ts";

test("a minimal config gets every default, and the metadata live in the source", () => {
  const config = parse(MINIMAL);
  const source = {
    host: "db.example.com",
    port: 5432,
    database: "app",
    user: "repl",
    sslMode: "prefer",
    connectTimeoutMs: 10_000,
    receiveTimeoutMs: 60_000,
  };
  assert.deepEqual(config, {
    group: "app",
    source,
    metadata: source,
    storage: { kind: "local", root: "/etc/flo/data" },
    schemas: { public: "*" },
    copy: { parallel: 2, fileSizeBytes: 128_000_000, snapshotMaxAgeMs: 3_600_000, maxRateBytes: null },
    stream: {
      flushIntervalMs: 10_000,
      streamCount: 1,
      fileSizeBytes: 128_000_000,
      memoryBytes: 128_000_000,
      failover: true,
      lostSlot: "stop",
      spillFolder: tmpdir(),
    },
    walBudget: { action: "warn" },
    historyMs: null,
    compact: { everyMs: null, graceMs: 86_400_000 },
    verify: { everyMs: null },
    leaseMs: 60_000,
    discoveryIntervalMs: 10_000,
    profile: "portable",
    compression: "zstd",
  });
});

test("every key is read", () => {
  const config = parse(`
group: app_2
source:
  host: /var/run/postgresql
  port: 6432
  database: "a b"
  user: r
  password: 0123
  sslmode: verify-full
  sslrootcert: tls/ca.pem
  sslcert: /tls/client.crt
  sslkey: tls/client.key
  connect_timeout: 3
  receive_timeout: 7
  publication: dba made
metadata: { url: "postgresql://m:p%40ss@[::1]:5433/meta?sslmode=disable&connect_timeout=5" }
storage: file:///srv/a%20b
schemas:
  sales:
    orders: { types: { amount: "decimal(20,4)", Note: string }, on_inexact: error, bloom_filter: [id], history: forever }
    yes:
    Odd.Name "x": { mode: copy-only, exclude_columns: [null, 1] }
    inventory: { mode: stream-only, include_columns: [id, quantity] }
  public: "*"
copy: { parallel: 64, file_size: 1GiB, snapshot_max_age: 30m, max_rate: 50MB }
stream: { flush_interval: 1.5s, streams: 1, file_size: 1 MB, memory: 16mb, spill_folder: spill, failover: off, lost_slot: resync }
wal_budget: { warning: 10GB, critical: 20 GiB, action: drop slot }
discovery_interval: 1m
history: 30d
compact: { every: 1h, grace: 0s }
lease: 2m
profile: native
compression: snappy
`);
  assert.deepEqual(config.source, {
    host: "/var/run/postgresql",
    port: 6432,
    database: "a b",
    user: "r",
    password: "0123",
    sslMode: "verify-full",
    sslRootCert: "/etc/flo/tls/ca.pem",
    sslCert: "/tls/client.crt",
    sslKey: "/etc/flo/tls/client.key",
    connectTimeoutMs: 3000,
    receiveTimeoutMs: 7000,
  });
  assert.equal(config.publication, "dba made");
  assert.deepEqual(config.metadata, {
    host: "::1",
    port: 5433,
    database: "meta",
    user: "m",
    password: "p@ss",
    sslMode: "disable",
    connectTimeoutMs: 5000,
    receiveTimeoutMs: 60_000,
  });
  assert.deepEqual(config.storage, { kind: "local", root: "/srv/a b" });
  assert.deepEqual(config.schemas, {
    sales: {
      orders: {
        mode: "copy-and-stream",
        types: { amount: "decimal(20,4)", Note: "string" },
        onInexact: "error",
        bloomFilter: ["id"],
        historyMs: null,
      },
      yes: { mode: "copy-and-stream" },
      'Odd.Name "x"': { mode: "copy-only", excludeColumns: ["null", "1"] },
      inventory: { mode: "stream-only", includeColumns: ["id", "quantity"] },
    },
    public: "*",
  });
  assert.deepEqual(config.copy, {
    parallel: 64,
    fileSizeBytes: 2 ** 30,
    snapshotMaxAgeMs: 1_800_000,
    maxRateBytes: 50e6,
  });
  assert.deepEqual(config.stream, {
    flushIntervalMs: 1500,
    streamCount: 1,
    fileSizeBytes: 1_000_000,
    memoryBytes: 16_000_000,
    failover: false,
    lostSlot: "resync",
    spillFolder: "/etc/flo/spill",
  });
  assert.deepEqual(config.walBudget, { warningBytes: 10e9, criticalBytes: 20 * 2 ** 30, action: "drop slot" });
  assert.deepEqual([config.discoveryIntervalMs, config.leaseMs], [60_000, 120_000]);
  assert.deepEqual([config.historyMs, config.compact], [30 * 86_400_000, { everyMs: 3_600_000, graceMs: 0 }]);
  assert.deepEqual([config.profile, config.compression], ["native", "snappy"]);
});

test("all mistakes are told at once, with key, line, value and what is allowed", () => {
  const message = mistakesOf(`group: My App
sourc: { url: "postgres://a@b/c" }
source: { url: "mysql://a@b/c", sslmod: require }
storage: s3://bucket/prefix?region=eu&secret_key=hush
schemas:
  public: { orders: { mode: stream, colums: [a] }, u: { types: { n: "decimal(40,2)", m: int } }, "*": {}, t: { include_columns: [a], exclude_columns: [b] } }
  pg_catalog: "*"
  sales: all
copy: { paralel: 4, file_size: 12 }
stream: { flush_interval: 10, streams: 17, memory: 1TB }
wal_budget: { warning: 2GB, critical: 1GB, action: panic }
lease: forever
profile: arrow
http: 8080
`);
  for (const expected of [
    'group (line 1) is "My App", allowed is 1 to 40 characters of a-z, 0-9 and _',
    "sourc (line 2) is not a key, did you mean source? Allowed are group, source",
    "source.sslmod (line 3) is not a key, did you mean sslmode?",
    "source.url (line 3) does not begin with postgres:// or postgresql://",
    'storage (line 4) is "s3://bucket/prefix?…", "secret_key" is not an option of it: credentials come from the environment, Allowed are region, endpoint, path_style, profile, checksum, sse, sse_kms_key_id',
    'schemas.public.orders.mode (line 6) is "stream", allowed is copy-and-stream, stream-only, copy-only',
    "schemas.public.orders.colums (line 6) is not a key, allowed are mode, include_columns, exclude_columns, types, on_inexact, bloom_filter",
    'schemas.public.* (line 6) is not a table; every table is written public: "*"',
    "schemas.public.t (line 6) has include_columns and exclude_columns, allowed is one of them",
    "schemas.pg_catalog (line 7) belongs to the server",
    'schemas.sales (line 8) is "all", allowed is "*" or a mapping of tables',
    'wal_budget.warning (line 11) is "2GB", allowed is at most wal_budget.critical ("1GB")',
    'wal_budget.action (line 11) is "panic", allowed is warn, throttle copy, drop slot',
    "copy.paralel (line 9) is not a key, did you mean parallel?",
    'copy.file_size (line 9) is "12", allowed is a size from 1MB to 4GB, such as 128MB',
    'stream.flush_interval (line 10) is "10", allowed is a duration from 100ms to 1h, such as 10s',
    'stream.streams (line 10) is "17", allowed is a whole number from 1 to 16',
    'stream.memory (line 10) is "1TB", allowed is a size from 16MB to 64GB',
    'lease (line 12) is "forever", allowed is a duration',
    'profile (line 13) is "arrow", allowed is portable, native',
    'schemas.public.u.types.m (line 6) is "int", allowed is string, double, decimal(p,s) with p from 1 to 38',
    'http (line 14) is "8080", allowed is host:port, such as 127.0.0.1:8080',
    "23 mistakes; correct the keys",
  ]) {
    assert.ok(message.includes(expected), `${expected}\nis not in\n${message}`);
  }
  assert.ok(!message.includes("hush"));
});

test("what is missing is told", () => {
  const message = mistakesOf("lease: 60s\ncopy:\n");
  for (const key of ["group", "source", "storage", "schemas"])
    assert.match(message, new RegExp(`${key} is missing, allowed is`));
  assert.match(message, /copy \(line 2\) has no value, allowed is a mapping with keys of parallel, file_size/);
  const connection = mistakesOf(withKey("source", "{ host: h, sslcert: a.crt }"));
  assert.match(connection, /source\.database \(line 6\) is missing/);
  assert.match(connection, /source\.user \(line 6\) is missing/);
  assert.match(connection, /source\.sslcert \(line 6\) needs sslkey too/);
  for (const empty of ["", "# nothing\n", "{}", "[]", "text", "null"]) assert.match(mistakesOf(empty), /group/);
});

test("text that is not YAML is told with its line", () => {
  assert.match(mistakesOf("group: app\nschemas: { public: * }\n"), /at line 2 has a \* .* in quotes: "\*"/);
  assert.match(mistakesOf("group: app\n\tstorage: x\n"), /at line 2/);
  assert.match(mistakesOf("group: app\ngroup: b\n"), /at line 2 has a key twice/);
  assert.match(mistakesOf("a: 1\n---\nb: 2\n"), /more than one document/);
  assert.match(mistakesOf("copy: { parallel: ${N} }"), /at line 1 .* a variable belongs in quotes/);
  assert.match(mistakesOf("a: &x { b: *x }"), /deeper than 20/);
  assert.match(mistakesOf("[".repeat(5_000)), /YAML/);
  assert.match(mistakesOf("__proto__: { group: x }"), /__proto__/);
});

test("schemas of the server and of pg-flo itself are refused", () => {
  for (const schema of ["pg_catalog", "pg_toast", "information_schema", "_pg_flo"]) {
    assert.match(mistakesOf(withKey("schemas", `{ ${schema}: "*" }`)), /belongs to the server or to pg-flo/);
  }
});

test("a home folder's ~ is refused, because it would make a folder named ~", () => {
  assert.match(mistakesOf(withKey("storage", "~/data")), /~ is not replaced here/);
  assert.match(mistakesOf(withKey("storage", "file://host/data")), /file:\/\/\/absolute\/folder/);
});

test("the starter config is valid as it is", () => {
  assert.equal(parse(starterConfig(), { PGPASSWORD: "x" }).source.password, "x");
  // Also with every commented key switched on.
  const all = starterConfig().replaceAll(/^( *)# ((?: *(?:- )?[a-z_]+:.*))$/gm, "$1$2");
  const env = { PGPASSWORD: "x", METADATA_PASSWORD: "y" };
  assert.equal(parse(all, env).metadata.password, "y");
  assert.equal(parse(all, env).source.sslMode, "verify-full");
});

test("http is a host and a port, 0 among them", () => {
  const http = (value: string) => parse(withKey("http", value)).http;
  assert.deepEqual(http("127.0.0.1:8080"), { host: "127.0.0.1", port: 8080 });
  assert.deepEqual(http('"[::1]:0"'), { host: "::1", port: 0 });
  assert.deepEqual(http("localhost:65535"), { host: "localhost", port: 65_535 });
  assert.equal("http" in parse(MINIMAL), false);
  for (const wrong of ["localhost:65536", "localhost", "http://localhost:1", "::1:80", "a b:1", '":8080"']) {
    assert.match(mistakesOf(withKey("http", wrong)), /http \(line \d+\) is .*, allowed is host:port/, wrong);
  }
});

test("any YAML value either is a config or raises CONFIG_INVALID, never anything else", () => {
  const keys = fc.constantFrom(
    "group",
    "source",
    "metadata",
    "storage",
    "schemas",
    "copy",
    "stream",
    "url",
    "public",
    "http",
    "lease",
    "parallel",
    "mode",
    "include_columns",
    "__proto__",
    "constructor",
  );
  const scalars = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.constantFrom(null, true, "*", "${X}", "${", "postgres://a:b@c/d", "10s", "s3://x"),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      scalars,
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(fc.oneof(keys, fc.string()), tie("value"), { maxKeys: 6 }),
    ),
  }));
  const check = (text: string) => {
    try {
      parse(text, { X: "1" });
    } catch (error) {
      assert.ok(error instanceof PgFloError && error.code === "CONFIG_INVALID", String((error as Error).stack));
    }
  };
  fc.assert(
    fc.property(value, (random) => check(stringify(random))),
    { numRuns: 500 },
  );
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 60 }), check), { numRuns: 500 });
  fc.assert(
    fc.property(
      fc.array(
        fc.constantFrom(
          "a:",
          " ",
          "\n",
          "- ",
          "{",
          "}",
          "[",
          "*a",
          "&a ",
          "!t ",
          "'",
          '"',
          "|",
          "? ",
          "---\n",
          "${X}",
          "<<:",
        ),
      ),
      (parts) => check(parts.join("")),
    ),
    { numRuns: 1000 },
  );
});

test("a file that cannot be read is told with the way out", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "pg-flo-config-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const missing = join(folder, "none.yaml");
  assert.throws(
    () => loadConfig(missing, {}),
    /\[CONFIG_INVALID\] .*none\.yaml, does not exist; make one with pg-flo init/,
  );
  assert.throws(() => loadConfig(folder, {}), /is a folder/);
  const file = join(folder, "pg-flo.yaml");
  writeFileSync(file, Buffer.from([0xff, 0xfe, 0x67]));
  assert.throws(() => loadConfig(file, {}), /is not UTF-8/);
  writeFileSync(file, `# ${"x".repeat(1_000_001)}`);
  assert.throws(() => loadConfig(file, {}), /allowed are 1000000/);
  writeFileSync(file, `\uFEFF${MINIMAL}`);
  assert.deepEqual(loadConfig(file, {}).storage, { kind: "local", root: join(folder, "data") });
});
