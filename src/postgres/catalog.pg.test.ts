import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import { type CatalogTable, readCatalog, readTables, readTypes } from "./catalog.ts";

const longName = "n".repeat(63);

for (const version of [14, 15, 16, 17, 18] as const) {
  describe(`the catalog of PostgreSQL ${version}`, () => {
    let server: TestServer;
    let database: TestDatabase;
    before(async () => {
      server = await startPostgres({ version });
      database = await server.createDatabase();
    });
    after(async () => {
      await database[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    });

    async function table(name: string, schema = "public"): Promise<CatalogTable> {
      const found = (await readTables(database.client)).find((each) => each.name === name && each.schema === schema);
      assert.ok(found, `${schema}.${name} is in the catalog`);
      return found;
    }

    /** Publishes the table as our plan would, and tells whether the server refuses an update. */
    async function updatable(name: string, update: string): Promise<boolean> {
      const generated = version >= 18 ? ", publish_generated_columns = stored" : "";
      await database.client.query(
        `create publication probe for table only ${name} with (publish_via_partition_root = true ${generated})`,
      );
      try {
        await database.client.query(update);
        return true;
      } catch {
        return false;
      } finally {
        await database.client.query("drop publication probe");
      }
    }

    test("columns have their types, and dropped ones are gone", async () => {
      await database.client.query(`
        create schema types; create domain types.price as numeric(10,2); create type types.mood as enum ('a');
        create table columns (id bigint primary key, gone int, amount numeric(12,2) not null, p types.price,
          m types.mood[], v varchar(7), g int generated always as (length(v)) stored);
        alter table columns drop column gone;`);
      const { columns, filtered } = await table("columns");
      assert.deepEqual(
        columns.map((column) => [column.name, column.attnum, column.typeName, column.notNull, column.generated]),
        [
          ["id", 1, "bigint", true, ""],
          ["amount", 3, "numeric(12,2)", true, ""],
          ["p", 4, "types.price", false, ""],
          ["m", 5, "types.mood[]", false, ""],
          ["v", 6, "character varying(7)", false, ""],
          ["g", 7, "integer", false, "s"],
        ],
      );
      assert.equal(columns[1]?.typmod, 12 * 65536 + 2 + 4);
      assert.equal(filtered, false);
    });

    test("types tell their element, base and send function", async () => {
      await database.client.query("create domain price2 as numeric(10,2); create type mood2 as enum ('a')");
      const types = await readTypes(database.client);
      const named = new Map([...types.values()].map((type) => [type.name, type]));
      assert.deepEqual(types.get(1007)?.elementOid, 23);
      assert.equal(types.get(19)?.elementOid, 0, "name is an array of char only to subscripts");
      assert.equal(types.get(25)?.hasSend, true);
      assert.equal(named.get("aclitem")?.hasSend, false);
      const domain = named.get("price2")!;
      assert.deepEqual([domain.kind, domain.baseOid, domain.baseTypmod], ["d", 1700, 10 * 65536 + 2 + 4]);
      assert.equal(named.get("mood2")?.kind, "e");
      assert.equal(named.get("mood2[]")?.elementOid, named.get("mood2")?.oid);
      assert.equal(types.get(23)?.baseTypmod, -1);
    });

    test("types tell their subtype, fields and extension, and money its scale", async () => {
      await database.client.query(`create extension hstore; create type pair2 as (a int, "B b" numeric(10,2));
        create table whole_row (x int, dropped text, y pair2[]); alter table whole_row drop column dropped;
        create table has_whole_row (rows whole_row[])`);
      const types = await readTypes(database.client);
      const named = new Map([...types.values()].map((type) => [type.name, type]));
      assert.equal(types.get(3904)?.subtypeOid, 23);
      assert.equal(types.get(4451)?.subtypeOid, 3904);
      assert.equal(types.get(23)?.subtypeOid, 0);
      assert.equal(types.get(790)?.moneyScale, 2);
      assert.deepEqual(named.get("pair2")?.fields, [
        { name: "a", attnum: 1, typeOid: 23, typmod: -1 },
        { name: "B b", attnum: 2, typeOid: 1700, typmod: 10 * 65536 + 2 + 4 },
      ]);
      assert.deepEqual(
        named.get("whole_row")?.fields?.map(({ name }) => name),
        ["x", "y"],
      );
      assert.equal(named.get("has_whole_row")?.fields, null, "nothing has a column of it");
      assert.equal(named.get("hstore")?.extension, "hstore");
      assert.equal(named.get("pair2")?.extension, null);
    });

    test("odd names are kept as they are", async () => {
      const names = ['a "quoted".name', "UPPER lower", "select", "ünï ☃", longName];
      for (const name of names) {
        const quoted = name.replaceAll('"', '""');
        await database.client.query(
          `create schema if not exists "odd ""s"; create table "odd ""s"."${quoted}" ("select" int primary key, "A.b" text)`,
        );
      }
      const tables = (await readTables(database.client)).filter(({ schema }) => schema === 'odd "s');
      assert.deepEqual(tables.map(({ name }) => name).toSorted(), names.toSorted());
      assert.deepEqual(
        tables[0]?.columns.map(({ name }) => name),
        ["select", "A.b"],
      );
    });

    test("identities are what the server takes for one", async () => {
      await database.client.query(`
        create table pk (b int, a int, c text, primary key (b, a)); insert into pk values (1, 1, '');
        create table bare (a int); insert into bare values (1);
        create table deferred (a int primary key deferrable); insert into deferred values (1);
        create table noth (a int primary key); alter table noth replica identity nothing; insert into noth values (1);
        create table full_pk (a int primary key, b text); alter table full_pk replica identity full;
        create table full_bare (a int); alter table full_bare replica identity full; insert into full_bare values (1);
        create table idx (a int not null, b int not null, c int primary key);
        create unique index idx_ab on idx (b, a) include (c); alter table idx replica identity using index idx_ab;
        create table idx_gone (a int not null, b int primary key); create unique index gone_a on idx_gone (a);
        alter table idx_gone replica identity using index gone_a; drop index gone_a; insert into idx_gone values (1, 1);
        create table gen (a int, g int generated always as (a * 2) stored, x int, primary key (a, g));
        insert into gen values (1, default, 1)`);
      const expected: Record<string, [unknown, string | undefined]> = {
        pk: [{ kind: "key", columns: ["b", "a"] }, undefined],
        bare: [{ kind: "none" }, "no-primary-key"],
        deferred: [{ kind: "none" }, "deferrable-primary-key"],
        noth: [{ kind: "none" }, "nothing"],
        full_pk: [{ kind: "full", columns: ["a"] }, undefined],
        full_bare: [{ kind: "full", columns: [] }, undefined],
        idx: [{ kind: "key", columns: ["a", "b"] }, undefined],
        idx_gone: [{ kind: "none" }, "identity-index-missing"],
        gen: version >= 18 ? [{ kind: "key", columns: ["a", "g"] }, undefined] : [{ kind: "none" }, "generated-key"],
      };
      for (const [name, [identity, reason]] of Object.entries(expected)) {
        const found = await table(name);
        assert.deepEqual(found.identity, identity, name);
        assert.equal(found.identityProblem?.reason, reason, name);
      }
      for (const name of ["pk", "bare", "deferred", "noth", "full_bare", "idx_gone", "gen"]) {
        const column = name === "gen" ? "x" : "a";
        const { identity } = await table(name);
        // Older servers let a key with a generated column pass, but do not send it: that is no identity for us.
        const wanted = identity.kind !== "none" || name === "gen";
        assert.equal(await updatable(name, `update ${name} set ${column} = 2`), wanted, name);
      }
    });

    test("a partitioned table has the leaves of every level and schema, which are no tables of their own", async () => {
      await database.client.query(`
        create schema attic;
        create table parted (id int, day date, note text, primary key (id, day)) partition by range (day);
        create table parted_old partition of parted for values from ('2020-01-01') to ('2021-01-01') partition by list (id);
        create table attic.parted_old_1 partition of parted_old for values in (1);
        create table attic.parted_old_rest partition of parted_old default;
        create table parted_new partition of parted for values from ('2021-01-01') to ('2022-01-01');
        create table parted_empty (id int primary key) partition by range (id)`);
      const root = await table("parted");
      assert.equal(root.kind, "partitioned");
      assert.deepEqual(root.heaps.map(({ schema, name }) => `${schema}.${name}`).toSorted(), [
        "attic.parted_old_1",
        "attic.parted_old_rest",
        "public.parted_new",
      ]);
      assert.ok(root.heaps.every(({ relfilenode, hasToast }) => relfilenode > 0 && hasToast));
      assert.deepEqual(root.identity, { kind: "key", columns: ["id", "day"] });
      assert.deepEqual((await table("parted_empty")).heaps, []);
      const { tables, others } = await readCatalog(database.client);
      assert.ok(!tables.some(({ name }) => /^parted_(old|new)/.test(name)));
      assert.deepEqual(
        others.find(({ name }) => name === "parted_old_1"),
        { schema: "attic", name: "parted_old_1", reason: "partition", related: { schema: "public", name: "parted" } },
      );
    });

    test("a partition with another identity than its root takes the table's away", async () => {
      await database.client.query(`
        create table mixed (a int primary key, b int not null) partition by range (a);
        create table mixed_1 partition of mixed for values from (0) to (10);
        create table mixed_2 partition of mixed for values from (10) to (20);
        insert into mixed values (1, 1), (11, 1);
        create table mixed_full (a int, b int) partition by range (a); alter table mixed_full replica identity full;
        create table mixed_full_1 partition of mixed_full for values from (0) to (10); insert into mixed_full values (1);
        create table leafkey (a int) partition by range (a);
        create table leafkey_1 partition of leafkey (primary key (a)) for values from (0) to (10)`);
      const state = async (name: string) => {
        const { identity, identityProblem: problem, columnListAllowed } = await table(name);
        return [identity.kind, problem && `${problem.name} ${problem.reason}`, columnListAllowed];
      };
      assert.deepEqual(await state("mixed"), ["key", null, true]);
      await database.client.query("alter table mixed_2 replica identity full");
      assert.deepEqual(await state("mixed"), ["key", null, false]);
      assert.equal(await updatable("mixed", "update mixed set b = 3"), true);
      await database.client.query("alter table mixed_2 replica identity nothing");
      assert.deepEqual(await state("mixed"), ["none", "mixed_2 nothing", true]);
      assert.equal(await updatable("mixed", "update mixed set b = 3"), false);
      await database.client.query(
        "create unique index other on mixed_2 (b); alter table mixed_2 replica identity using index other",
      );
      assert.deepEqual(await state("mixed"), ["none", "mixed_2 partition-differs", true]);
      assert.deepEqual((await table("mixed")).identityColumns, ["a", "b"]);
      assert.deepEqual(await state("mixed_full"), ["none", "mixed_full_1 no-primary-key", false]);
      assert.equal(await updatable("mixed_full", "update mixed_full set b = 3"), false);
      assert.deepEqual(await state("leafkey"), ["none", "leafkey no-primary-key", true]);
    });

    test("what cannot be mirrored is told apart", async () => {
      await database.client.query(`
        create unlogged table unlogged_t (a int); create view view_t as select 1; create materialized view mat_t as select 1;
        create temporary table temp_t (a int);
        create foreign data wrapper dummy; create server dummy foreign data wrapper dummy;
        create foreign table foreign_t (a int) server dummy;
        create table with_foreign (a int) partition by range (a);
        create foreign table foreign_part partition of with_foreign for values from (0) to (1) server dummy;
        create table with_unlogged (a int) partition by range (a);
        create unlogged table unlogged_part partition of with_unlogged for values from (0) to (1);
        create table of_extension (a int); alter extension plpgsql add table of_extension`);
      const { others, tables, schemas } = await readCatalog(database.client);
      const reasons = Object.fromEntries(others.map(({ name, reason }) => [name, reason]));
      assert.equal(reasons.unlogged_t, "unlogged table");
      assert.equal(reasons.view_t, "view");
      assert.equal(reasons.mat_t, "materialized view");
      assert.equal(reasons.foreign_t, "foreign table");
      assert.equal(reasons.with_foreign, "partitioned table with a foreign partition");
      assert.equal(reasons.with_unlogged, "partitioned table with an unlogged partition");
      assert.equal(reasons.of_extension, "table of an extension");
      assert.ok(!tables.some(({ name }) => name in reasons || name === "temp_t"));
      assert.ok(schemas.includes("public") && !schemas.some((schema) => schema.startsWith("pg_")));
      await database.client.query("alter extension plpgsql drop table of_extension");
    });

    const virtualColumns = "a virtual generated column under REPLICA IDENTITY FULL leaves the table without identity";
    const testVirtual = async () => {
      await database.client.query(`
        create table virt (id int primary key, x int, v int generated always as (id * 2) virtual); insert into virt values (1, 1)`);
      assert.equal((await table("virt")).identity.kind, "key");
      assert.equal(await updatable("virt", "update virt set x = 2"), true);
      await database.client.query("alter table virt replica identity full");
      assert.equal((await table("virt")).identityProblem?.reason, "virtual-column-under-full");
      assert.equal(await updatable("virt", "update virt set x = 2"), false);
    };
    if (version >= 18) test(virtualColumns, testVirtual);

    test("the number of statements does not grow with the number of tables", async () => {
      await database.client.query(
        `do $$ begin for i in 1..300 loop execute format('create table many_%s (id int primary key, a text)', i); end loop; end $$`,
      );
      const { client } = database;
      let statements = 0;
      const counting = new Proxy(client, {
        get(target, key) {
          if (key !== "query") return Reflect.get(target, key);
          return (...args: [string]) => {
            statements++;
            return target.query(...args);
          };
        },
      });
      const { tables } = await readCatalog(counting);
      assert.ok(tables.length > 300);
      assert.ok(statements <= 7, `${statements} statements`);
    });
  });
}
