import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import { readCatalog } from "./catalog.ts";
import { connect } from "./connect.ts";
import type { Finding } from "./finding.ts";
import { grantsScript } from "./grants.ts";
import { preflight, preflightMetadata } from "./preflight.ts";
import { syncPublications } from "./publication.ts";
import { type SchemaWishes, selectTables } from "./selection.ts";

const everything: SchemaWishes = { public: "*" };

interface Look {
  readonly schemas?: SchemaWishes;
  readonly publication?: string;
  readonly metadataAtSource?: boolean;
  readonly copyParallel?: number;
}

for (const version of [14, 18] as const) {
  describe(`preflight on PostgreSQL ${version}`, () => {
    let server: TestServer;
    let database: TestDatabase;
    const role = `weak "role"`;
    const login = { user: role, password: "secret" };
    before(async () => {
      server = await startPostgres({ version });
      database = await server.createDatabase();
      await database.client.query(`
        create role "weak ""role""" login password 'secret'; create role owner;
        create table keyed (id int primary key, a text); create table bare (a int); insert into bare values (1), (2);
        alter table keyed owner to owner; alter table bare owner to owner;
        revoke create on schema public from public; create schema sales; create table sales.hidden (id int primary key)`);
    });
    after(async () => {
      await database[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    });

    async function look(options: Look = {}, as: typeof login | undefined = undefined): Promise<Finding[]> {
      const client = await connect(server.config(database.name, as), { applicationName: "pg-flo test check" });
      try {
        const catalog = await readCatalog(client);
        return await preflight(client, {
          group: "app",
          selection: selectTables(catalog, options.schemas ?? everything),
          metadataAtSource: options.metadataAtSource ?? false,
          copyParallel: options.copyParallel ?? 4,
          ...(options.publication === undefined ? {} : { publication: options.publication }),
        });
      } finally {
        await client.end();
      }
    }

    const codes = (findings: readonly Finding[], severity: Finding["severity"] = "error") =>
      findings.filter((each) => each.severity === severity).map(({ code }) => code);
    const find = (findings: readonly Finding[], code: string) => {
      const found = findings.find((each) => each.code === code);
      assert.ok(found, `${code} in ${findings.map((each) => each.code)}`);
      return found;
    };

    test("a superuser at a fit server has no errors, and is told of the table without identity", async () => {
      await database.client.query("update bare set a = a + 1; delete from bare where a = 2");
      await database.client.query("select pg_stat_reset_single_table_counters('bare'::regclass)");
      const findings = await look({ metadataAtSource: true });
      assert.deepEqual(codes(findings), []);
      const bare = find(findings, "no-identity");
      assert.equal(bare.severity, "warning");
      assert.equal(bare.subject, "table public.bare");
      assert.match(
        bare.message,
        /no primary key.*updates and deletes cannot be seen; the server's statistics count none/,
      );
      assert.match(bare.fix, /ADD PRIMARY KEY .* or ALTER TABLE "public"\."bare" REPLICA IDENTITY FULL;/);
    });

    test("the server's counters tell whether a table without identity is updated", async () => {
      await database.client.query("create table counted (a int); insert into counted values (1), (2)");
      await database.client.query("update counted set a = 3; delete from counted");
      // Counters are flushed when the session is idle or ends.
      const deadline = Date.now() + 20_000;
      let message = "";
      while (!/2 updates and 2 deletes/.test(message) && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        await database.client.query("select 1");
        message = (await look()).find(({ subject }) => subject === "table public.counted")!.message;
      }
      assert.match(message, /2 updates and 2 deletes/);
      await database.client.query("drop table counted");
    });

    test("every missing right is told with the SQL that gives it, and that SQL is enough", async () => {
      const schemas: SchemaWishes = { public: "*", sales: "*" };
      await server.query(`revoke create on database ${database.name} from public`);
      const findings = await look({ schemas, metadataAtSource: true }, login);
      assert.deepEqual(codes(findings).toSorted(), [
        "create-publication-right",
        "metadata-right",
        "replication-right",
        "schema-right",
        "select-right",
        "select-right",
        "table-owner",
        "table-owner",
      ]);
      assert.equal(find(findings, "replication-right").fix, 'ALTER ROLE "weak ""role""" REPLICATION;');
      for (const { severity, fix } of findings) {
        if (severity === "error") await database.client.query(fix.replace(/ or let a DBA.*/, ""));
      }
      assert.deepEqual(codes(await look({ schemas, metadataAtSource: true }, login)), []);
      const client = await connect(server.config(database.name, login), { applicationName: "pg-flo test" });
      const catalog = await readCatalog(client);
      const { tables } = selectTables(catalog, schemas);
      await syncPublications(client, { group: "app", stream: 1, tables, serverVersion: catalog.serverVersion });
      await client.query("create table _pg_flo.t (a int); drop table _pg_flo.t; select * from sales.hidden");
      await client.end();
      // What it made itself needs no right to create: the next look is as good.
      await database.client.query(`revoke create on database ${database.name} from "weak ""role"""`);
      assert.deepEqual(codes(await look({ schemas, metadataAtSource: true }, login)), []);
      await database.client.query(`drop publication pg_flo_app_1, pg_flo_app_1_insert; drop schema _pg_flo;
        revoke owner from "weak ""role"""; revoke postgres from "weak ""role"""; alter role "weak ""role""" noreplication;
        revoke all on all tables in schema public, sales from "weak ""role"""; revoke all on schema sales from "weak ""role"""`);
    });

    test("the script for a least-privilege role gives just enough, with a publication of the DBA's", async () => {
      const poor = { user: `least_${version}`, password: "secret" };
      const schemas: SchemaWishes = { public: { keyed: { mode: "copy-and-stream" } }, sales: "*" };
      const catalog = await readCatalog(database.client);
      const { tables } = selectTables(catalog, schemas);
      const script = grantsScript({
        role: poor.user,
        database: database.name,
        group: "app",
        tables,
        serverVersion: catalog.serverVersion,
      });
      await database.client.query(script);
      await database.client.query(`alter role ${poor.user} password 'secret'`);
      const findings = await look({ schemas, publication: "dba_pg_flo_app_1", metadataAtSource: true }, poor);
      assert.deepEqual(codes(findings), []);
      const others = await look({ schemas: everything, publication: "dba_pg_flo_app_1" }, poor);
      assert.deepEqual(codes(others).toSorted(), ["not-published", "select-right"]);
      assert.deepEqual(codes(await look({ schemas, publication: "nix" }, poor)), ["publication-missing"]);
      await database.client.query(
        `drop publication dba_pg_flo_app_1; drop owned by ${poor.user}; drop role ${poor.user}`,
      );
    });

    test("row-level security that hides rows from the role is an error", async () => {
      await database.client.query(`create table guarded (id int primary key); alter table guarded enable row level security;
        grant select on guarded to "weak ""role"""`);
      const guarded: SchemaWishes = { public: { guarded: { mode: "copy-and-stream" } } };
      const found = find(await look({ schemas: guarded }, login), "row-security");
      assert.equal(found.fix, 'ALTER ROLE "weak ""role""" BYPASSRLS;');
      const client = await connect(server.config(database.name, login), { applicationName: "pg-flo test" });
      await assert.rejects(client.query("copy (select * from guarded) to stdout"), /row-level security/);
      await client.end();
      await database.client.query(found.fix);
      assert.ok(!codes(await look({ schemas: guarded }, login)).includes("row-security"));
      assert.ok(!codes(await look({ schemas: guarded })).includes("row-security"), "the owner sees all");
      await database.client.query('alter role "weak ""role""" nobypassrls; drop table guarded');
    });

    test("names that somebody else uses are errors", async () => {
      await database.client.query("create publication pg_flo_app_1");
      await database.client.query("select pg_create_physical_replication_slot('pg_flo_app_1')");
      assert.deepEqual(codes(await look()), ["slot-taken", "publication-taken"]);
      await database.client.query("drop publication pg_flo_app_1; select pg_drop_replication_slot('pg_flo_app_1')");
    });

    test("types without a binary form inside are told", async () => {
      await database.client.query("create table odd (id int primary key, acl aclitem[], plain aclitem)");
      const found = find(await look(), "text-stream");
      assert.equal(found.severity, "info");
      assert.match(found.message, /public\.odd\.acl aclitem\[\]/);
      assert.ok(!found.message.includes("plain"), "the server sends a plain one as text by itself");
      await database.client.query("drop table odd");
    });

    test("partitions that would lack REPLICA IDENTITY FULL later are told", async () => {
      await database.client.query(`create table parts (a int) partition by range (a); alter table parts replica identity full;
        create table parts_1 partition of parts for values from (0) to (1); alter table parts_1 replica identity full`);
      assert.match(find(await look(), "new-partitions").fix, /PARTITION OF/);
      await database.client.query("drop table parts");
    });

    test("settings that will hurt are told with the statement that changes them", async () => {
      await server.query("alter system set wal_sender_timeout = '5s'");
      await server.query("alter system set max_slot_wal_keep_size = '64MB'");
      await server.query("select pg_reload_conf()");
      const warnings = codes(await look({ copyParallel: 1000 }), "warning");
      for (const code of ["wal-sender-timeout", "slot-wal-keep", "few-connections"])
        assert.ok(warnings.includes(code), code);
      await server.query("alter system reset wal_sender_timeout");
      await server.query("alter system reset max_slot_wal_keep_size");
      await server.query("select pg_reload_conf()");
      await database.client.query('alter role "weak ""role""" connection limit 2');
      assert.ok(codes(await look({}, login), "warning").includes("connection-limit"));
      await database.client.query('alter role "weak ""role""" connection limit -1');
    });

    test("the metadata database is asked by itself", async () => {
      assert.deepEqual(await preflightMetadata(database.client), []);
      const client = await connect(server.config(database.name, login), { applicationName: "pg-flo test" });
      assert.deepEqual(codes(await preflightMetadata(client)), ["metadata-right"]);
      await client.end();
    });
  });
}

describe("preflight at a server that is not set up", () => {
  let server: TestServer;
  before(async () => {
    server = await startPostgres({ settings: { wal_level: "replica", max_replication_slots: 1, max_wal_senders: 1 } });
  });
  after(() => server[Symbol.asyncDispose]());

  async function errors(): Promise<Finding[]> {
    const client = await connect(server.config("postgres"), { applicationName: "pg-flo test check" });
    const selection = selectTables(await readCatalog(client), everything);
    const options = { group: "app", selection, metadataAtSource: false, copyParallel: 1 };
    const findings = await preflight(client, options);
    await client.end();
    return findings.filter(({ severity }) => severity !== "info");
  }

  test("wal_level, slots and walsenders are told; the group's own slot counts as its own", async () => {
    const first = await errors();
    assert.deepEqual(
      first.map(({ code }) => code),
      ["wal-level", "schema-empty", "no-free-slot-later", "no-free-wal-sender-later"],
    );
    assert.match(first[0]!.fix, /ALTER SYSTEM SET wal_level = 'logical'; then restart/);
    await server.query("select pg_create_physical_replication_slot('other')");
    const taken = (await errors()).find(({ code }) => code === "no-free-slot");
    assert.equal(taken?.severity, "error");
    assert.match(taken.fix, /ALTER SYSTEM SET max_replication_slots = 3; then restart the server, or drop one/);
    await server.query("select pg_drop_replication_slot('other')");
    await server.restart({ settings: { wal_level: "logical" } });
    await server.query("select pg_create_logical_replication_slot('pg_flo_app_1', 'pgoutput')");
    const own = (await errors()).map(({ code }) => code);
    assert.deepEqual(own, ["schema-empty", "no-free-slot-later", "no-free-wal-sender-later"]);
  });
});
