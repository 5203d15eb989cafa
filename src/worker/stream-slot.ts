// The stream's own slot, made at its first start. One that is left over from a start that did not get far has nothing
// that counts, and goes; a worker that was replaced meanwhile must not be the one that drops it.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { formatLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { holdsStream } from "../metadata/stream-claims.ts";
import { activateStream, type StreamFence } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import { applicationName } from "../postgres/connect.ts";
import { endSlotSession, endTurn, takeTurn } from "../postgres/sessions.ts";
import { dropSlot, readSlot } from "../postgres/slot.ts";
import type { CopyOutcomeOptions } from "./copy-outcomes.ts";
import { cutCopyOnly } from "./cut-service.ts";
import { stopChanged } from "./definition-check.ts";
import { FIRST_STREAM } from "./discovery.ts";
import type { HeldSnapshots } from "./held-snapshots.ts";
import { snapshotOfNewSlot } from "./snapshot.ts";
import { onSource } from "./source-connection.ts";
import { streamFenced } from "./stream-service.ts";

const TURN_WAIT_MS = 5000;

export interface SlotCreation extends CopyOutcomeOptions {
  readonly snapshots: HeldSnapshots;
  /** Registered and published by this worker. */
  readonly tables: readonly Table[];
}

/** Creates the slot, holds its snapshot, and stores its consistent point as the cut of the tables. */
export async function createStreamSlot(
  options: SlotCreation,
  slot: string,
  fence: StreamFence,
  signal: AbortSignal,
): Promise<void> {
  const { config, db, snapshots, log, tables } = options;
  await dropOwnSlot(config, db, slot, fence);
  failpoint("slot.unfinished-dropped");
  log.info("creating the replication slot, which waits for the transactions that run now", { slot });
  const snapshot = await snapshotOfNewSlot(config, { name: slot, temporary: false }, signal);
  const { lsn } = snapshot;
  await snapshots.add(snapshot);
  try {
    failpoint("slot.created");
    await stopChanged(
      options,
      tables.filter((table) => (table.stream ?? FIRST_STREAM) === fence.stream),
    );
    const own = tables.filter((table) => table.stream === fence.stream);
    const activation = await activateStream(db, fence, lsn, own);
    if (activation.result === "fenced") throw streamFenced(fence);
    failpoint("slot.activated");
    if (fence.stream === FIRST_STREAM) await cutCopyOnly(db, config.group, tables, lsn);
  } finally {
    snapshots.settled(lsn);
  }
  log.info("slot created", { slot, consistentPoint: formatLsn(lsn) });
}

/**
 * Drops the slot of a stream that this worker holds, if there is one.
 *
 * A worker that was replaced may wake up at any line. So the drop is done on a session that has the slot's turn, and the
 * lease is looked at after the turn was taken: whoever takes the stream later waits for the turn, or ends that session,
 * and with it the drop, before it creates a slot.
 */
export async function dropOwnSlot(config: Config, db: Queryable, slot: string, fence: StreamFence): Promise<void> {
  await onSource(config, "drop the slot before", async (source) => {
    if (!(await takeTurn(source, "slot", slot, TURN_WAIT_MS))) {
      await endTurn(source, "slot", slot);
      if (!(await takeTurn(source, "slot", slot, TURN_WAIT_MS))) {
        throw new PgFloError("SLOT_IN_USE", `replication slot "${slot}", another session is about to drop it`);
      }
    }
    if (!(await holdsStream(db, fence))) throw streamFenced(fence);
    const state = await readSlot(source, slot);
    // Somebody still waits for its creation. A finished one that is read belongs to other metadata: it stays.
    if (state.exists && state.active && state.confirmedFlushLsn === null) {
      await endSlotSession(source, slot, [applicationName(config.group, "slot")]);
    }
    await dropSlot(source, slot);
  });
}
