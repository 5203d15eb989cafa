import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import { PgFloError } from "../base/errors.ts";
import { readCatalog } from "./catalog.ts";
import { publicationFindings, readPublication } from "./given-publication.ts";
import { dropPublications, syncPublications } from "./publication.ts";
import { type SchemaWishes, selectTables } from "./selection.ts";

for (const version of [14, 15, 18] as const) {
  describe(`publications on PostgreSQL ${version}`, () => {
    let server: TestServer;
    let database: TestDatabase;
    before(async () => {
      server = await startPostgres({ version });
    });
    after(() => server[Symbol.asyncDispose]());
    beforeEach(async () => {
      database = await server.createDatabase();
      await database.client.query(`
        create table keyed (id int primary key, a text, b text); insert into keyed values (1, 'a', 'b');
        create table bare (a int); insert into bare values (1);
        create table parent (id int primary key); create table child (extra int) inherits (parent);
        create schema "S.1"; create table "S.1"."select" ("A b" int primary key);
        create table parted (id int primary key, g int generated always as (id * 2) stored) partition by range (id);
        create table parted_1 partition of parted for values from (0) to (10); insert into parted values (1)`);
    });

    const everything: SchemaWishes = { public: "*", "S.1": "*" };

    async function sync(schemas: SchemaWishes = everything, client = database.client, keepOthers = false) {
      const catalog = await readCatalog(client);
      const { tables } = selectTables(catalog, schemas);
      const changes = await syncPublications(client, {
        group: "app",
        stream: 1,
        tables,
        serverVersion: catalog.serverVersion,
        keepOthers,
      });
      const names = (list: readonly { readonly name: string }[]) => list.map(({ name }) => name);
      return changes
        .map((each) => [each.publication, names(each.added), names(each.removed), names(each.changed)])
        .filter(([, ...lists]) => lists.some((list) => list!.length > 0));
    }

    async function published(): Promise<Record<string, string[]>> {
      const { rows } = await database.client.query(
        `select pubname, array_agg(tablename::text order by tablename) as tables from pg_publication_tables group by 1`,
      );
      return Object.fromEntries(rows.map(({ pubname, tables }) => [pubname, tables]));
    }

    const all = ["child", "keyed", "parent", "parted", "select"];

    test("tables with an identity are published wholly, those without for inserts only", async () => {
      await using _ = database;
      await sync();
      // The child of an inheritance parent has inherited no key.
      assert.deepEqual(await published(), {
        pg_flo_app_1: all.filter((name) => name !== "child"),
        pg_flo_app_1_insert: ["bare", "child"],
      });
      const { rows } = await database.client.query(
        "select pubname, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot from pg_publication order by 1",
      );
      const flags = rows.map((row) => Object.values(row).slice(1));
      assert.deepEqual(flags, [
        [true, true, true, true, true],
        [true, false, false, true, true],
      ]);
    });

    test("the application's updates and deletes go on in every published table", async () => {
      await using _ = database;
      await sync({
        public: {
          keyed: { mode: "copy-and-stream", excludeColumns: ["b"] },
          bare: { mode: "stream-only" },
          parted: { mode: "copy-and-stream" },
        },
      });
      for (const table of ["keyed", "bare", "parted"]) {
        const column = table === "bare" ? "a" : "id";
        await database.client.query(`update ${table} set ${column} = ${column} + 1; delete from ${table}`);
      }
      await database.client.query(
        "alter table keyed replica identity full; alter table parted_1 replica identity full",
      );
      await sync({
        public: { keyed: { mode: "copy-and-stream", excludeColumns: ["b"] }, parted: { mode: "copy-and-stream" } },
      });
      await database.client.query("insert into keyed values (2, 'a', 'b'); insert into parted values (2)");
      await database.client.query(
        "update keyed set b = 'c'; update parted set id = 3; delete from keyed; delete from parted",
      );
    });

    test("a second call changes nothing, and neither does any number of workers at once", async () => {
      await using _ = database;
      const clients = await Promise.all(Array.from({ length: 5 }, () => database.connect()));
      const results = await Promise.all(clients.map((client) => sync(everything, client)));
      assert.equal(results.filter((changes) => changes.length > 0).length, 1);
      assert.deepEqual(await sync(), []);
      assert.equal((await published()).pg_flo_app_1?.length, 4);
    });

    test("tables move, come and go with the config and with their identity", async () => {
      await using _ = database;
      await sync();
      await database.client.query("alter table bare add primary key (a); alter table keyed drop constraint keyed_pkey");
      await database.client.query(
        "create table fresh (id int primary key); drop table child; alter table parent rename to renamed",
      );
      assert.deepEqual(await sync({ public: "*" }), [
        ["pg_flo_app_1", ["bare", "fresh"], ["select", "keyed"], []],
        ["pg_flo_app_1_insert", ["keyed"], ["bare"], []],
      ]);
      assert.deepEqual(await sync({ public: "*" }), []);
      await database.client.query("update keyed set a = 'x'");
    });

    test("on demand only those that come and move are touched, and what goes is left in", async () => {
      await using _ = database;
      const one = { public: { keyed: { mode: "copy-and-stream" } } } as const;
      const others = { public: { bare: { mode: "copy-and-stream" } } } as const;
      await sync(one);
      await sync(others, database.client, true);
      assert.deepEqual(await published(), { pg_flo_app_1: ["keyed"], pg_flo_app_1_insert: ["bare"] });
      await database.client.query("alter table bare add primary key (a)");
      await sync(others, database.client, true);
      assert.deepEqual(await published(), { pg_flo_app_1: ["bare", "keyed"] });
      await sync(others);
      assert.deepEqual(await published(), { pg_flo_app_1: ["bare"] });
    });

    test("a table that is renamed between reading the catalog and publishing is published, one that is dropped is not", async () => {
      await using _ = database;
      const catalog = await readCatalog(database.client);
      const { tables } = selectTables(catalog, everything);
      await database.client.query("alter table keyed rename to moved; drop table bare");
      await syncPublications(database.client, {
        group: "app",
        stream: 1,
        tables,
        serverVersion: catalog.serverVersion,
      });
      assert.deepEqual((await published()).pg_flo_app_1, ["moved", "parent", "parted", "select"]);
    });

    test("an identity that goes away in between stops the publishing", async () => {
      await using _ = database;
      const catalog = await readCatalog(database.client);
      const { tables } = selectTables(catalog, everything);
      await database.client.query("alter table keyed drop constraint keyed_pkey");
      const syncing = syncPublications(database.client, {
        group: "app",
        stream: 1,
        tables,
        serverVersion: catalog.serverVersion,
      });
      await assert.rejects(syncing, /SERVER_BUSY.*public\.keyed.*replica identity changed/);
      assert.deepEqual(await published(), {});
      await database.client.query("update keyed set a = 'x'");
    });

    test("a lock that is held for a while is waited for in short turns", async () => {
      await using _ = database;
      const holder = await database.connect();
      await holder.query("begin; lock table keyed in share update exclusive mode");
      const syncing = sync();
      await new Promise((resolve) => setTimeout(resolve, 2500));
      // Whoever comes after us is not held up: readers and writers go on while we wait.
      await server.query("update keyed set a = 'y'", database.name);
      await holder.query("commit");
      assert.equal((await syncing).length, 2);
    });

    test("a publication of the same name that is not ours is left alone", async () => {
      await using _ = database;
      await database.client.query("create publication pg_flo_app_1 for table keyed");
      await assert.rejects(
        sync(),
        (error) =>
          error instanceof PgFloError && error.code === "PREFLIGHT_FAILED" && /DROP PUBLICATION/.test(error.fix),
      );
      assert.deepEqual(await dropPublications(database.client, "app"), []);
      assert.deepEqual(await published(), { pg_flo_app_1: ["keyed"] });
    });

    test("dropping takes the group's publications and no others", async () => {
      await using _ = database;
      await sync();
      await database.client.query("create publication other for table keyed");
      assert.deepEqual(await dropPublications(database.client, "app"), ["pg_flo_app_1", "pg_flo_app_1_insert"]);
      assert.deepEqual(Object.keys(await published()), ["other"]);
      assert.deepEqual(await dropPublications(database.client, "app"), []);
    });

    test("a publication that somebody altered is put right", async () => {
      await using _ = database;
      await sync();
      await database.client.query(
        "alter publication pg_flo_app_1 set (publish = 'insert', publish_via_partition_root = false)",
      );
      await database.client.query("alter publication pg_flo_app_1 drop table keyed");
      assert.deepEqual(await sync(), [["pg_flo_app_1", ["keyed"], [], []]]);
      const { rows } = await database.client.query(
        "select pubupdate, pubviaroot from pg_publication where pubname = 'pg_flo_app_1'",
      );
      assert.deepEqual(rows, [{ pubupdate: true, pubviaroot: true }]);
    });

    test("a role that may not publish is told so", async () => {
      await using _ = database;
      const name = `poor_${database.name}`;
      await database.client.query(`create role ${name} login`);
      await database.client.query(`set role ${name}`);
      await assert.rejects(sync(), (error) => error instanceof PgFloError && error.code === "PERMISSION_DENIED");
      await database.client.query("reset role");
      await database.client.query(`drop role ${name}`);
    });

    test("a given publication is read as it is, and what it lacks is told", async () => {
      await using _ = database;
      assert.equal(await readPublication(database.client, "dba"), null);
      await database.client.query("create publication dba for table keyed, parted with (publish = 'insert, update')");
      const publication = (await readPublication(database.client, "dba"))!;
      assert.deepEqual(publication.operations, ["insert", "update"]);
      const { tables } = selectTables(await readCatalog(database.client), { public: "*" });
      const codes = publicationFindings(publication, tables).map(({ code, subject }) => `${code} ${subject}`);
      assert.deepEqual(codes, [
        "publication-operations publication dba",
        "publication-via-root publication dba",
        "not-published table public.bare",
        "not-published table public.child",
        "not-published table public.parent",
      ]);
      await database.client.query(
        "drop publication dba; create publication dba for all tables with (publish_via_partition_root = true)",
      );
      const findings = publicationFindings((await readPublication(database.client, "dba"))!, tables);
      assert.deepEqual(
        findings.map(({ code, subject }) => `${code} ${subject}`),
        [
          "publication-breaks-updates table public.bare",
          "publication-breaks-updates table public.child",
          ...(version >= 18 ? ["column-not-published table public.parted"] : []),
        ],
      );
    });

    const testColumnLists = async () => {
      await using _ = database;
      const lists = async () => {
        const { rows } = await database.client.query(
          "select tablename, attnames::text as columns from pg_publication_tables where tablename in ('keyed', 'bare') order by 1",
        );
        return Object.fromEntries(rows.map(({ tablename, columns }) => [tablename, columns]));
      };
      const wish = (excludeColumns: string[]) => ({
        public: { keyed: { mode: "copy-and-stream" as const, excludeColumns } },
      });
      await sync(wish(["b"]));
      assert.deepEqual(await lists(), { keyed: "{id,a}" });
      assert.deepEqual(await sync(wish(["a"])), [["pg_flo_app_1", [], [], ["keyed"]]]);
      assert.deepEqual(await lists(), { keyed: "{id,b}" });
      await sync(wish([]));
      assert.deepEqual(await lists(), { keyed: "{id,a,b}" });
      await database.client.query(
        "create publication dba for table keyed (a), bare where (a > 0) with (publish = 'insert')",
      );
      const { tables } = selectTables(await readCatalog(database.client), {
        public: { ...wish([]).public, bare: { mode: "stream-only" } },
      });
      const codes = publicationFindings((await readPublication(database.client, "dba"))!, tables).map(
        ({ code }) => code,
      );
      assert.deepEqual(codes, ["publication-operations", "published-columns-lack-identity", "row-filter"]);
    };
    if (version >= 15) test("columns that the config leaves out are left out by the server", testColumnLists);

    const testGenerated = async () => {
      await using _ = database;
      await sync();
      const { rows } = await database.client.query(
        "select attnames::text as columns from pg_publication_tables where tablename = 'parted'",
      );
      assert.deepEqual(rows, [{ columns: "{id,g}" }]);
    };
    if (version >= 18) test("stored generated columns are published", testGenerated);
  });
}
