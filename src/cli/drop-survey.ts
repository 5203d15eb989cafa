// What there is to remove of a group, and by whom it is used. Only looks. Works on what is left when half of it is gone:
// slots are found by their name too, publications by their comment, metadata also when they are damaged.
import type { Client } from "pg";
import { PgFloError } from "../base/errors.ts";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import type { Config } from "../config/config.ts";
import type { Group } from "../metadata/groups.ts";
import { checkMetadata } from "../metadata/migrations.ts";
import { row } from "../metadata/queryable.ts";
import { readStreams } from "../metadata/streams.ts";
import { readWorkers, type WorkerInfo } from "../metadata/workers.ts";
import { publicationComment } from "../postgres/publication-plan.ts";
import { slotName } from "../postgres/slot.ts";
import type { Storage } from "../storage/storage.ts";
import { readGroupIfThere } from "./inspection.ts";
import { isAlive } from "./status-document.ts";

export interface MetadataSurvey {
  /**
   * `empty`: a schema without any group, as a start that did not get far leaves it. `damaged`: its tables are not as they
   * should be, so what they say is not known.
   */
  readonly state: "missing" | "empty" | "there" | "damaged";
  readonly group: Group | null;
  readonly slots: readonly string[];
  /** Workers that may still be at work. */
  readonly workers: readonly WorkerInfo[];
}

export interface SourceSurvey {
  readonly systemIdentifier: string;
  readonly slots: readonly string[];
  readonly publications: readonly string[];
}

/** METADATA_VERSION: a newer pg-flo wrote it, so that this one cannot know what belongs to the group. */
export async function surveyMetadata(client: Client, config: Config): Promise<MetadataSurvey> {
  try {
    const group = await readGroupIfThere(client, config.group);
    if (!group) return { state: (await isEmpty(client)) ? "empty" : "missing", group: null, slots: [], workers: [] };
    const streams = await readStreams(client, config.group);
    const workers = await readWorkers(client, config.group);
    return {
      state: "there",
      group,
      slots: streams.map((stream) => stream.slotName),
      workers: workers.filter((worker) => isAlive(worker, config.leaseMs)),
    };
  } catch (error) {
    if (!(error instanceof PgFloError) || error.code !== "METADATA_CORRUPT") throw error;
    return { state: "damaged", group: null, slots: [], workers: [] };
  }
}

async function isEmpty(client: Client): Promise<boolean> {
  if ((await checkMetadata(client)) === "missing") return false;
  return (await row(client, `select 1 from ${METADATA_SCHEMA}.groups limit 1`)) === undefined;
}

/** `known`: slots that the metadata name. Slots of other plugins and other databases are not ours, whatever their name. */
export async function surveySource(client: Client, group: string, known: readonly string[]): Promise<SourceSurvey> {
  const own = slotName(group, 1).replace(/1$/, "");
  const slots = await client.query<{ name: string }>(
    `select slot_name::text as name from pg_replication_slots
     where plugin = 'pgoutput' and database = current_database() and not temporary
       and (slot_name = any($1) or slot_name ~ ('^' || $2 || '[0-9]+$'))
     order by 1`,
    [known, own],
  );
  const publications = await client.query<{ name: string }>(
    `select pubname::text as name from pg_publication p
     where obj_description(p.oid, 'pg_publication') = $1 order by 1`,
    [publicationComment(group)],
  );
  const identity = await client.query<{ id: string }>("select system_identifier::text as id from pg_control_system()");
  return {
    systemIdentifier: BigInt.asUintN(64, BigInt(identity.rows[0]!.id)).toString(),
    slots: slots.rows.map(({ name }) => name),
    publications: publications.rows.map(({ name }) => name),
  };
}

export interface GroupFile {
  readonly path: string;
  remove(): Promise<void>;
}

/** Every file that pg-flo wrote for the group, also what a crash left; nothing else that lies in its folder. */
export async function* filesOf(storage: Storage, group: string): AsyncGenerator<GroupFile> {
  for await (const { path } of storage.list(group)) {
    if (isOurs(path) && /\.parquet$/.test(path)) yield { path, remove: () => storage.remove(path) };
  }
  for await (const file of storage.listUnfinished(group)) {
    if (isOurs(file.path)) yield { path: file.path, remove: () => storage.removeUnfinished(file) };
  }
}

function isOurs(path: string): boolean {
  const [, folder, kind, ...rest] = path.split("/");
  return folder?.includes(".") === true && (kind === "copy" || kind === "stream") && rest.length > 0;
}
