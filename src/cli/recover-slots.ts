// Before a worker starts, where that is wanted: streams whose slot is lost go on at a new one. Loaded only then.
import { PgFloError } from "../base/errors.ts";
import { readGroup } from "../metadata/groups.ts";
import { openMetadata } from "../metadata/migrations.ts";
import { openStorage } from "../storage/open.ts";
import { recoverLostStreams } from "../worker/slot-recovery.ts";
import { fileSource } from "./query.ts";
import { withSession } from "./session.ts";

type Session = Omit<Parameters<typeof fileSource>[0], "options">;

/** A group that is not there yet has lost nothing. */
export async function recoverSlots(session: Session, signal: AbortSignal): Promise<void> {
  const { config, log } = session;
  const name = { group: config.group, what: "recover" };
  await withSession(config.metadata, name, async (db) => {
    try {
      await readGroup(db, config.group);
    } catch (error) {
      if (error instanceof PgFloError && error.code === "GROUP_MISSING") return;
      if (!(error instanceof PgFloError) || error.code !== "METADATA_VERSION") throw error;
    }
    await openMetadata(db);
    const storage = openStorage(config.storage);
    const filesOf = (manifest: Parameters<typeof fileSource>[1]) => fileSource({ ...session, options: {} }, manifest);
    await recoverLostStreams({ config, db, storage, log, filesOf }, signal);
  });
}
