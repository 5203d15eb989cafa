// Everything that would go wrong, looked at before anything is created: source, replication connection, metadata,
// storage. What fails becomes a finding, and the look goes on with the rest.
import { PgFloError } from "../base/errors.ts";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import type { Config } from "../config/config.ts";
import { type Group, readGroup } from "../metadata/groups.ts";
import { checkMetadata } from "../metadata/migrations.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { applicationName } from "../postgres/connect.ts";
import type { Finding } from "../postgres/finding.ts";
import { preflight, preflightMetadata } from "../postgres/preflight.ts";
import { openReplication } from "../postgres/replication.ts";
import type { SelectedTable } from "../postgres/selection.ts";
import { readSlot, type SlotState, slotName } from "../postgres/slot.ts";
import { openStorage } from "../storage/open.ts";
import { discover, wantedStreams } from "../worker/discovery.ts";
import { sameConnection, withSession } from "./session.ts";

export interface Inspection {
  /** Errors first. */
  readonly findings: readonly Finding[];
  /** What would be mirrored, by schema and name; empty when the source could not be read. */
  readonly tables: readonly SelectedTable[];
  /** Null when the source could not be read. */
  readonly source: InspectedSource | null;
  /** Of the source's cluster; null when no replication connection could be made. */
  readonly systemIdentifier: string | null;
}

export interface InspectedSource {
  readonly serverVersion: number;
  /** Of the streams that the config wants. */
  readonly slots: readonly SlotState[];
}

/** Looks at all of it. Only defects of pg-flo itself are thrown. */
export async function inspect(config: Config): Promise<Inspection> {
  const findings: Finding[] = [];
  const attempt = async <Result>(subject: string, work: () => Promise<Result>): Promise<Result | null> => {
    try {
      return await work();
    } catch (error) {
      findings.push(failureFinding(subject, error));
      return null;
    }
  };
  const source = await attempt("source", () => inspectSource(config));
  findings.push(...(source?.findings ?? []));
  const replicates = source !== null && !source.findings.some(({ code }) => withoutReplication.has(code));
  const systemIdentifier = replicates ? await attempt("source", () => readSystemIdentifier(config)) : null;
  // One that cannot be reached as the source is not tried again as the metadata.
  if (source !== null || !sameConnection(config.source, config.metadata)) {
    const known = await attempt("metadata", () => inspectMetadata(config, systemIdentifier));
    findings.push(...(known?.findings ?? []));
    if (known !== null && source !== null) {
      findings.push(...source.slots.flatMap((slot) => leftoverSlot(config, known.group, slot)));
    }
  }
  await attempt("storage", () => openStorage(config.storage).probe());
  return {
    findings: bySeverity(withoutRepeats(findings)),
    tables: source?.tables ?? [],
    source: source && { serverVersion: source.serverVersion, slots: source.slots },
    systemIdentifier,
  };
}

/** Findings that say already why no replication connection can be made. */
const withoutReplication = new Set(["replication-right", "no-free-wal-sender", "server-version", "standby"]);

async function inspectSource(config: Config) {
  return withSession(config.source, { group: config.group, what: "check" }, async (client) => {
    const { catalog, selection } = await discover(client, config);
    const streams = wantedStreams(config);
    const findings = await preflight(client, {
      group: config.group,
      selection,
      ...(config.publication === undefined ? {} : { publication: config.publication }),
      streams,
      metadataAtSource: false, // looked at below, as the role that uses it
      copyParallel: config.copy.parallel,
    });
    const slots: SlotState[] = [];
    for (const stream of streams) slots.push(await readSlot(client, slotName(config.group, stream)));
    const tables = selection.tables.toSorted(({ table: a }, { table: b }) =>
      a.schema === b.schema ? compare(a.name, b.name) : compare(a.schema, b.schema),
    );
    return { findings, tables, serverVersion: catalog.serverVersion, slots };
  });
}

/** Proves too that the server lets this role make replication connections. */
async function readSystemIdentifier(config: Config): Promise<string> {
  const replication = await openReplication(config.source, { applicationName: applicationName(config.group, "check") });
  try {
    return (await replication.identifySystem()).systemId;
  } finally {
    await replication.close();
  }
}

interface InspectedMetadata {
  readonly findings: readonly Finding[];
  /** Null when it is not registered, undefined when that cannot be known yet. */
  readonly group: Group | null | undefined;
}

async function inspectMetadata(config: Config, systemIdentifier: string | null): Promise<InspectedMetadata> {
  return withSession(config.metadata, { group: config.group, what: "check" }, async (client) => {
    const findings = await preflightMetadata(client);
    if (findings.some(({ severity }) => severity === "error")) return { findings, group: undefined };
    const shape = await checkMetadata(client);
    if (shape === "missing") return { findings, group: null };
    if (shape === "older") return { findings: [...findings, olderFinding()], group: undefined };
    const group = await readGroupIfThere(client, config.group);
    return { findings: group ? [...findings, ...otherGroup(config, group, systemIdentifier)] : findings, group };
  });
}

/** Null when it is not registered. */
export async function readGroupIfThere(client: Queryable, name: string): Promise<Group | null> {
  try {
    return await readGroup(client, name);
  } catch (error) {
    if (error instanceof PgFloError && error.code === "GROUP_MISSING") return null;
    throw error;
  }
}

function olderFinding(): Finding {
  const message = "is of an older version of pg-flo, it will be upgraded";
  return { severity: "info", code: "metadata-older", subject: `schema ${METADATA_SCHEMA}`, message, fix: "" };
}

/** The same refusals as registering's. */
function otherGroup(config: Config, group: Group, systemIdentifier: string | null): Finding[] {
  const differences: readonly (readonly [what: string, stored: string, given: string | null])[] = [
    ["source cluster", group.systemIdentifier, systemIdentifier],
    ["source database", group.sourceDatabase, config.source.database],
    ["storage", group.storageUrl, openStorage(config.storage).url],
  ];
  return differences
    .filter(([, stored, given]) => given !== null && stored !== given)
    .map(([what, stored, given]) => ({
      severity: "error",
      code: "other-group",
      subject: `group ${group.name}`,
      message: `belongs to another ${what}, ${stored} and not ${given}`,
      fix: `choose another group name, or run pg-flo drop for group ${group.name} with its own config first`,
    }));
}

function leftoverSlot(config: Config, group: Group | null | undefined, slot: SlotState): Finding[] {
  if (group !== null || !slot.exists || slot.plugin !== "pgoutput" || slot.database !== config.source.database) {
    return [];
  }
  const subject = `replication slot ${slot.name}`;
  const message = "is there, but the metadata database does not know the group: the server keeps WAL for nobody";
  const fix = "name the metadata database that the group was made with, or run pg-flo drop to remove the slot";
  return [{ severity: "warning", code: "slot-leftover", subject, message, fix }];
}

/** An error as a finding: its code in kebab-case. */
function failureFinding(subject: string, error: unknown): Finding {
  if (!(error instanceof PgFloError)) throw error;
  const code = error.code.toLowerCase().replaceAll("_", "-");
  return { severity: "error", code, subject, message: error.description, fix: error.fix };
}

function withoutRepeats(findings: readonly Finding[]): Finding[] {
  return [...new Map(findings.map((finding) => [JSON.stringify(finding), finding])).values()];
}

function bySeverity(findings: readonly Finding[]): Finding[] {
  const order = { error: 0, warning: 1, info: 2 };
  return findings.toSorted((a, b) => order[a.severity] - order[b.severity]);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
