import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import { PgFloError } from "../base/errors.ts";
import { connect } from "./connect.ts";
import { dropSlot, type ExistingSlot, readSlot, slotLostError, slotName } from "./slot.ts";

for (const version of [14, 15, 16, 17, 18] as const) {
  describe(`a slot on PostgreSQL ${version}`, () => {
    let server: TestServer;
    let database: TestDatabase;
    before(async () => {
      server = await startPostgres({ version, settings: { min_wal_size: "32MB", max_wal_size: "32MB" } });
      database = await server.createDatabase();
    });
    after(async () => {
      await database[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    });

    async function create(name: string): Promise<void> {
      await database.client.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [name]);
    }

    async function existing(name: string): Promise<ExistingSlot> {
      const slot = await readSlot(database.client, name);
      assert.ok(slot.exists);
      return slot;
    }

    test("tells what the server knows of it", async () => {
      assert.deepEqual(await readSlot(database.client, "nix"), { exists: false });
      await create("pg_flo_read_1");
      const slot = await existing("pg_flo_read_1");
      const {
        name,
        plugin,
        database: of,
        temporary,
        active,
        activePid,
        walStatus,
        safeBytes,
        invalidationReason,
      } = slot;
      assert.deepEqual(
        { name, plugin, of, temporary, active, activePid, walStatus, safeBytes, invalidationReason },
        {
          name: "pg_flo_read_1",
          plugin: "pgoutput",
          of: database.name,
          temporary: false,
          active: false,
          activePid: null,
          walStatus: "reserved",
          safeBytes: null,
          invalidationReason: null,
        },
      );
      assert.ok(slot.restartLsn! > 0n && slot.confirmedFlushLsn! >= slot.restartLsn!);
      await database.client.query("select pg_logical_emit_message(false, 'x', repeat('x', 100000)), pg_switch_wal()");
      assert.ok((await existing("pg_flo_read_1")).retainedBytes >= 100000);
      assert.equal(await dropSlot(database.client, "pg_flo_read_1"), true);
      assert.equal(await dropSlot(database.client, "pg_flo_read_1"), false);
    });

    test("is not dropped while somebody reads it, and is once the reader is gone", async () => {
      await create("pg_flo_busy_1");
      await database.client.query("create publication p_busy");
      const reader = await connect(database.config, { applicationName: "pg-flo reader", replication: "database" });
      const command =
        "START_REPLICATION SLOT pg_flo_busy_1 LOGICAL 0/0 (proto_version '1', publication_names 'p_busy')";
      // It runs until the connection ends.
      const reading = reader.query(command).catch(() => {});
      while (!(await existing("pg_flo_busy_1")).active) await new Promise((resolve) => setTimeout(resolve, 20));
      const { activePid } = await existing("pg_flo_busy_1");
      await assert.rejects(dropSlot(database.client, "pg_flo_busy_1", { waitMs: 300 }), (error) => {
        assert.ok(error instanceof PgFloError);
        assert.equal(error.code, "SLOT_IN_USE");
        assert.match(error.message, new RegExp(`process ${activePid} `));
        return true;
      });
      const dropping = dropSlot(database.client, "pg_flo_busy_1");
      await server.query(`select pg_terminate_backend(${activePid})`);
      assert.equal(await dropping, true);
      await reading;
    });

    test("that the server gave up is lost, with the reason", async () => {
      await create("pg_flo_lost_1");
      await server.query("alter system set max_slot_wal_keep_size = '1MB'");
      await server.query("select pg_reload_conf()");
      for (let step = 0; step < 4; step++) {
        await server.query("select pg_logical_emit_message(false, 'x', repeat('x', 1000)), pg_switch_wal()");
      }
      await server.query("checkpoint");
      const slot = await existing("pg_flo_lost_1");
      assert.equal(slot.walStatus, "lost");
      assert.equal(slot.invalidationReason, "wal_removed");
      assert.equal(slot.retainedBytes, 0);
      const error = slotLostError(slot.name, slot.invalidationReason!);
      assert.equal(error.code, "SLOT_LOST");
      assert.match(
        error.message,
        /replication slot "pg_flo_lost_1" was invalidated \(wal_removed\); raise max_slot_wal_keep_size, then run /,
      );
      assert.equal(await dropSlot(database.client, "pg_flo_lost_1"), true);
    });
  });
}

test("a slot's name is the group's and the stream's", () => {
  assert.equal(slotName("app"), "pg_flo_app_1");
  assert.equal(slotName("app", 2), "pg_flo_app_2");
  for (const group of ["App", "a-b", "a".repeat(60)]) {
    assert.throws(() => slotName(group), PgFloError);
  }
});

test("a slot that somebody dropped is lost too", () => {
  assert.match(slotLostError("pg_flo_app_1", "dropped").message, /does not exist any more/);
});
