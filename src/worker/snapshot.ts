// A snapshot that copying threads import: made by a slot's creation, held by a transaction of our own.

import { systemClock } from "../base/clock.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { applicationName, connect, endClient, receiveTimeoutMs } from "../postgres/connect.ts";
import { toPgFloError } from "../postgres/pg-error.ts";
import { quoteLiteral } from "../postgres/quote.ts";
import { openReplication, type ReplicationConnection } from "../postgres/replication.ts";
import { readSlot } from "../postgres/slot.ts";
import { onSource } from "./source-connection.ts";

/** So often the slot is seen to be done, within the time for an answer, before the connection is given up. */
const UNHEARD_TIMES = 3;

export interface HeldSnapshot extends AsyncDisposable {
  readonly name: string;
  /** It sees exactly the transactions with a commit LSN below it. */
  readonly lsn: Lsn;
  /** Asks the server: a connection that was lost took it away. */
  alive(): Promise<boolean>;
}

/**
 * Creates a slot and holds the snapshot of its creation. Waits until every transaction that runs now has ended.
 * A temporary slot is gone when this returns; its snapshot is not.
 */
export async function snapshotOfNewSlot(
  config: Config,
  slot: { readonly name: string; readonly temporary: boolean },
  signal: AbortSignal,
): Promise<HeldSnapshot> {
  const replication = await openReplication(config.source, { applicationName: applicationName(config.group, "slot") });
  // The server drops a slot that is not ready when its connection ends.
  const giveUp = (): void => replication.destroy(signal.reason);
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    signal.throwIfAborted();
    const created = await heard(config, replication, slot.name, () =>
      replication.createSlot(slot.name, {
        temporary: slot.temporary,
        snapshot: "export",
        failover: !slot.temporary && config.stream.failover,
      }),
    );
    failpoint("snapshot.exported");
    return await holdSnapshot(config, created.snapshotName!, created.consistentPoint);
  } catch (error) {
    // Giving up takes the exported snapshot away from whoever is about to import it: that is no loss then.
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", giveUp);
    await replication.close();
  }
}

/**
 * Creating a slot may take hours without a word: another connection asks whether it still goes on. When the slot is
 * there, or not any more, and no answer comes, none will.
 */
async function heard<T>(
  config: Config,
  replication: ReplicationConnection,
  slot: string,
  create: () => Promise<T>,
): Promise<T> {
  const end = new AbortController();
  const watching = (async () => {
    for (let answered = 0; !end.signal.aborted; ) {
      await systemClock.sleep(receiveTimeoutMs(config.source) / UNHEARD_TIMES, end.signal);
      const waits = await onSource(config, "look at the slot", async (source) => {
        const state = await readSlot(source, slot);
        return state.exists && state.confirmedFlushLsn === null;
      }).catch(() => true); // a source that cannot be asked says nothing of this connection
      answered = waits ? 0 : answered + 1;
      if (answered === UNHEARD_TIMES) replication.destroySilent();
    }
  })();
  watching.catch(() => {}); // the sleep that was aborted
  try {
    return await create();
  } finally {
    end.abort();
  }
}

/** Holds a snapshot that somebody exported under this name, as of this LSN. SNAPSHOT_LOST: nobody holds it any more. */
export function importSnapshot(config: Config, exported: string, lsn: Lsn): Promise<HeldSnapshot> {
  return holdSnapshot(config, exported, lsn);
}

// The exporting connection must stay idle; a transaction that imported the snapshot can export it again and again.
async function holdSnapshot(config: Config, exported: string, lsn: Lsn): Promise<HeldSnapshot> {
  let lost = false;
  const onLost = (): void => {
    lost = true;
  };
  const holder = await connect(config.source, { applicationName: applicationName(config.group, "snapshot"), onLost });
  try {
    await holder.query("begin transaction isolation level repeatable read read only");
    await holder.query(`set transaction snapshot ${quoteLiteral(exported)}`);
    const { rows } = await holder.query<{ name: string }>("select pg_export_snapshot() as name");
    return {
      name: rows[0]!.name,
      lsn,
      async alive() {
        if (!lost) await holder.query("select 1").catch(onLost);
        return !lost;
      },
      [Symbol.asyncDispose]: () => endClient(holder),
    };
  } catch (error) {
    await endClient(holder);
    throw toPgFloError(error, `hold the snapshot for group ${config.group}`);
  }
}
