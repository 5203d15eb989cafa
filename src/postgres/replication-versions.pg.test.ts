import assert from "node:assert/strict";
import { test } from "node:test";
import { postgresVersions, startPostgres } from "../../test/support/postgres.ts";
import { LSN_ZERO } from "../base/lsn.ts";
import { openReplication, type StartOptions } from "./replication.ts";

const protoVersions = { 14: 2, 15: 3, 16: 4, 17: 4, 18: 4 } as const;

for (const version of postgresVersions) {
  test(`PostgreSQL ${version} makes slots, streams, and tells when a publication is missing`, async () => {
    await using server = await startPostgres({ version });
    await using database = await server.createDatabase();
    const open = () => openReplication(database.config, { applicationName: "versions test" });
    await database.client.query("create table t (a int primary key); create publication p for table t");

    const first = await open();
    assert.equal(Math.floor(first.serverVersion / 10_000), version);
    const kept = await first.createSlot("kept", { temporary: false, snapshot: "export", failover: true });
    assert.match(kept.snapshotName ?? "", /^[0-9A-F-]+$/);
    const passing = await first.createSlot("passing", { temporary: true, snapshot: "nothing" });
    assert.equal(passing.snapshotName, null);
    await database.client.query("insert into t select generate_series(1, 1000)");

    const options: StartOptions = {
      ...{ slot: "kept", startLsn: LSN_ZERO, protoVersion: protoVersions[version], streaming: "on" },
      ...{ publicationNames: ["p"], binary: true, messages: true },
    };
    const stop = new AbortController();
    let inserts = 0;
    await first.start(
      options,
      {
        data(bytes, _view, start) {
          if (bytes[start] === 0x49) inserts++;
          if (bytes[start] === 0x43) stop.abort();
        },
        keepalive() {},
        chunk() {},
      },
      stop.signal,
    );
    assert.equal(inserts, 1000);
    await first.close();

    const second = await open();
    const idle = { data() {}, keepalive() {}, chunk() {} };
    const missing = second.start({ ...options, publicationNames: ["gone"] }, idle, new AbortController().signal);
    await assert.rejects(missing, { code: "PREFLIGHT_FAILED" });
    await second.close();
  });
}
