// `pg-flo drop`: takes away what pg-flo made: slots, publications, metadata, with `--files` the files too. Asks first.
// Refuses while a worker lives, and never touches a publication of somebody else. Can be repeated: each step leaves
// what the next call needs to find the rest.
import type { Client } from "pg";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { escapeControls } from "../base/log.ts";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import type { Config } from "../config/config.ts";
import { type DroppedGroup, dropGroup } from "../metadata/groups.ts";
import { connectionName } from "../postgres/connect.ts";
import { dropPublications } from "../postgres/publication.ts";
import { publicationNames } from "../postgres/publication-plan.ts";
import { dropSlot, readSlot, slotName } from "../postgres/slot.ts";
import { inParallel } from "../storage/lanes.ts";
import { openStorage } from "../storage/open.ts";
import { wantedStreams } from "../worker/discovery.ts";
import { confirm } from "./confirmation.ts";
import type { Invocation, Register } from "./context.ts";
import { withConfig } from "./context.ts";
import {
  filesOf,
  type GroupFile,
  type MetadataSurvey,
  type SourceSurvey,
  surveyMetadata,
  surveySource,
} from "./drop-survey.ts";
import { printJson } from "./output.ts";
import { withSession } from "./session.ts";

interface DropOptions {
  readonly yes?: boolean;
  readonly files?: boolean;
  readonly force?: boolean;
  readonly metadataOnly?: boolean;
}

export const registerDrop: Register = (program, context) => {
  program
    .command("drop")
    .description("remove the group's slots, publications and metadata; files stay unless --files")
    .option("--yes", "do not ask")
    .option("--files", "remove the group's files too")
    .option("--force", "also while a worker runs, or something reads the slot: it is cut off")
    .option("--metadata-only", "leave the source alone, for one that is gone for good")
    .action(withConfig<DropOptions>(context, (invocation) => runDrop(invocation)));
};

interface Survey {
  readonly metadata: MetadataSurvey;
  /** Null with --metadata-only. */
  readonly source: SourceSurvey | null;
  /** Null without --files. */
  readonly fileCount: number | null;
}

interface Removed {
  readonly slots: readonly string[];
  readonly publications: readonly string[];
  readonly metadata: DroppedGroup;
  readonly files: number | null;
}

type DropInvocation = Invocation<DropOptions> & { readonly config: Config };

async function runDrop(invocation: DropInvocation): Promise<void> {
  const { config, options, stdout, globals } = invocation;
  const withSource = <Result>(work: (client: Client | null) => Promise<Result>) =>
    options.metadataOnly === true ? work(null) : sourceSession(config, work);
  const removed = await withSource((source) =>
    withSession(config.metadata, { group: config.group, what: "drop" }, async (metadata) => {
      const survey = await surveyAll(config, metadata, source, options.files === true);
      refuseOtherSource(config, survey);
      refuseLiveWorkers(config, survey, options.force === true);
      if (isEmpty(survey)) return null;
      if (!options.yes) await ask(invocation, survey);
      return removeAll(config, survey, metadata, source, options.force === true);
    }),
  );
  if (globals.json) return printJson(stdout, removedDocument(config, removed));
  await stdout.write(removedText(config, removed, options));
}

async function sourceSession<Result>(config: Config, work: (client: Client) => Promise<Result>): Promise<Result> {
  let connected = false;
  try {
    return await withSession(config.source, { group: config.group, what: "drop" }, (client) => {
      connected = true;
      return work(client);
    });
  } catch (error) {
    if (connected || !(error instanceof PgFloError)) throw error;
    throw new PgFloError(error.code, `drop group ${config.group}, nothing was removed, ${error.description}`, {
      fix: `${error.fix}; if the source is gone for good, run pg-flo drop --metadata-only`,
      facts: error.facts,
      cause: error,
    });
  }
}

async function surveyAll(config: Config, metadata: Client, source: Client | null, files: boolean): Promise<Survey> {
  const found = await surveyMetadata(metadata, config);
  let fileCount = 0;
  if (files) for await (const _ of filesOf(openStorage(config.storage), config.group)) fileCount++;
  return {
    metadata: found,
    source: source && (await surveySource(source, config.group, found.slots)),
    fileCount: files ? fileCount : null,
  };
}

/** A config that was changed to name another server must not take that one's objects away. */
function refuseOtherSource(config: Config, { metadata, source }: Survey): void {
  const { group } = metadata;
  if (!group || !source) return;
  const same = group.systemIdentifier === source.systemIdentifier && group.sourceDatabase === config.source.database;
  if (same) return;
  throw new PgFloError(
    "CONFIG_INVALID",
    `group ${config.group}, source, the group was made from database ${group.sourceDatabase} of cluster ` +
      `${group.systemIdentifier}, the config names database ${config.source.database} of ${source.systemIdentifier}`,
    { fix: "name the right source; if that one is gone for good, run pg-flo drop --metadata-only" },
  );
}

function refuseLiveWorkers(config: Config, { metadata }: Survey, force: boolean): void {
  const [worker] = metadata.workers;
  if (!worker || force) return;
  const seconds = Math.round(worker.heartbeatAgeMs / 1000);
  throw new PgFloError(
    "SLOT_IN_USE",
    `group ${config.group}, ${metadata.workers.length} running, the first is process ${worker.pid} on ` +
      `${worker.host} (last heartbeat ${seconds} s ago)`,
    {
      fix: "stop it and run pg-flo drop again, or cut it off with --force; nothing was removed",
      facts: { host: worker.host, pid: worker.pid },
    },
  );
}

function isEmpty({ metadata, source, fileCount }: Survey): boolean {
  const atSource = source === null ? 0 : source.slots.length + source.publications.length;
  return metadata.state === "missing" && atSource === 0 && !fileCount;
}

async function ask(invocation: DropInvocation, survey: Survey): Promise<void> {
  const { config, stderr } = invocation;
  if (!process.stdin.isTTY) {
    throw new PgFloError("CONFIG_INVALID", "command line, drop asks first, and there is no terminal to ask on", {
      fix: "give --yes; nothing was removed",
    });
  }
  await stderr.write(surveyText(config, survey));
  if (await confirm(process.stdin, process.stderr, "Remove all this? [y/N] ")) return;
  throw new PgFloError("CANCELLED", `drop group ${config.group}, not confirmed`);
}

function surveyText(config: Config, { metadata, source, fileCount }: Survey): string {
  const storage = openStorage(config.storage).url;
  const lines = [
    ...(source?.slots ?? []).map((slot) => `replication slot ${slot} at ${connectionName(config.source)}`),
    ...(source?.publications ?? []).map((name) => `publication ${name} at ${connectionName(config.source)}`),
    ...metadataText(config, metadata),
    ...(fileCount === null ? [] : [`${fileCount} files of the group in ${storage}`]),
  ];
  const kept = fileCount === null ? `The group's files in ${storage} stay.\n` : "";
  return `${lines.map((line) => `  ${escapeControls(line)}\n`).join("")}${escapeControls(kept.trim())}${kept && "\n"}`;
}

function metadataText(config: Config, { state }: MetadataSurvey): string[] {
  const schema = `schema ${METADATA_SCHEMA} at ${connectionName(config.metadata)}`;
  if (state === "missing") return [];
  if (state === "empty") return [`${schema}, which has no group`];
  return [`what ${schema} knows of group ${config.group}${state === "damaged" ? " (it is damaged)" : ""}`];
}

async function removeAll(
  config: Config,
  survey: Survey,
  metadata: Client,
  source: Client | null,
  force: boolean,
): Promise<Removed> {
  // A worker that is cut off must find nothing to go on with; otherwise the slot goes first, for it keeps WAL.
  const early = force && source ? await dropGroup(metadata, config.group) : null;
  if (early) failpoint("drop.metadata-first");
  const slots: string[] = [];
  let publications: readonly string[] = [];
  if (source && survey.source) {
    for (const slot of survey.source.slots) {
      if (await (force ? dropSlotByForce(source, slot) : dropSlot(source, slot))) slots.push(slot);
      failpoint("drop.slot-dropped");
    }
    // Not before the slot: what reads it would meet a publication that is missing.
    publications = await dropPublications(source, config.group);
    failpoint("drop.publications-dropped");
  }
  const dropped = early ?? (await dropGroup(metadata, config.group));
  failpoint("drop.metadata-dropped");
  const files = survey.fileCount === null ? null : await removeFiles(config);
  return { slots, publications, metadata: dropped, files };
}

const FORCE_ATTEMPTS_MOST = 20;
const FORCE_WAIT_MS = 500;

async function dropSlotByForce(client: Client, name: string): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    const slot = await readSlot(client, name);
    if (slot.exists && slot.activePid !== null) await client.query("select pg_terminate_backend($1)", [slot.activePid]);
    try {
      return await dropSlot(client, name, { waitMs: FORCE_WAIT_MS });
    } catch (error) {
      const again = error instanceof PgFloError && error.code === "SLOT_IN_USE" && attempt < FORCE_ATTEMPTS_MOST;
      if (!again) throw error;
    }
  }
}

/** At once: at a bucket each is a request. */
const REMOVING_MAX = 8;

async function removeFiles(config: Config): Promise<number> {
  const storage = openStorage(config.storage);
  // Listed first: removing the last file of a folder removes the folder under the listing.
  const files: GroupFile[] = [];
  for await (const file of filesOf(storage, config.group)) files.push(file);
  await inParallel(files, REMOVING_MAX, async (file) => {
    await file.remove();
    failpoint("drop.file-removed");
  });
  return files.length;
}

function removedDocument(config: Config, removed: Removed | null) {
  return {
    group: config.group,
    slots: removed?.slots ?? [],
    publications: removed?.publications ?? [],
    metadata: removed?.metadata.existed ?? false,
    schema: removed?.metadata.schemaDropped ?? false,
    files: removed?.files ?? 0,
  };
}

function removedText(config: Config, removed: Removed | null, options: DropOptions): string {
  const lines =
    removed === null
      ? []
      : [
          ...removed.slots.map((slot) => `replication slot ${slot}`),
          ...removed.publications.map((name) => `publication ${name}`),
          ...(removed.metadata.existed ? [`metadata of group ${config.group}`] : []),
          ...(removed.metadata.schemaDropped ? [`schema ${METADATA_SCHEMA}`] : []),
          ...(removed.files ? [`${removed.files} files`] : []),
        ];
  const text = lines.length === 0 ? `nothing of group ${config.group} was there\n` : "";
  const left = options.metadataOnly ? leftAtSource(config) : "";
  return `${text}${lines.map((line) => `removed ${escapeControls(line)}\n`).join("")}${left}`;
}

/** With --metadata-only the source may come back, and keep WAL for a slot that nobody reads. */
function leftAtSource(config: Config): string {
  const statements = wantedStreams(config).map((stream) => {
    const names = publicationNames(config.group, stream);
    return (
      `  SELECT pg_drop_replication_slot('${slotName(config.group, stream)}');\n` +
      `  DROP PUBLICATION IF EXISTS ${names.all}, ${names.insert};\n`
    );
  });
  return `the source was left alone; if it still lives, run there:\n${statements.join("")}`;
}
