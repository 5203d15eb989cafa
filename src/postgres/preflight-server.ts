// What the server and the role allow: settings, free slots and walsenders, the right to replicate.
import type { ClientBase } from "pg";
import type { Finding } from "./finding.ts";
import { quoteRole } from "./grants.ts";
import { readSlot, type SlotState } from "./slot.ts";

export interface ServerFacts {
  readonly version: number;
  readonly versionName: string;
  readonly standby: boolean;
  readonly encoding: string;
  readonly role: string;
  readonly database: string;
  readonly superuser: boolean;
  readonly replication: boolean;
  /** -1 is unlimited. */
  readonly roleConnectionsMost: number;
  /** RDS and Aurora give the right to replicate by membership. */
  readonly onRds: boolean;
  readonly rdsReplication: boolean;
  readonly mayCreateInDatabase: boolean;
  readonly walLevel: string;
  readonly slotsMost: number;
  readonly slotsUsed: number;
  readonly walSendersMost: number;
  readonly walSendersUsed: number;
  readonly walSenderTimeoutMs: number;
  /** -1 is unlimited. */
  readonly slotWalKeepMb: number;
  readonly decodingMemoryKb: number;
  /** PostgreSQL 18 and later, else 0; 0 is never. In the server's own words, e.g. `1d`. */
  readonly idleSlotTimeout: string;
  readonly connectionsMost: number;
  readonly connectionsUsed: number;
  /** Of the group's streams. */
  readonly slots: readonly SlotState[];
}

/** A query, and one for each slot. */
export async function readServerFacts(client: ClientBase, slotNames: readonly string[]): Promise<ServerFacts> {
  const { rows } = await client.query<Omit<ServerFacts, "slots">>(serverFactsSql);
  const slots: SlotState[] = [];
  for (const name of slotNames) slots.push(await readSlot(client, name));
  return { ...rows[0]!, slots };
}

// `setting` is in the parameter's own unit: ms, MB and kB for these.
const setting = (name: string) => `(select setting::int from pg_settings where name = '${name}')`;

const serverFactsSql = `
  select current_setting('server_version_num')::int as version, current_setting('server_version') as "versionName",
    pg_is_in_recovery() as standby, current_setting('server_encoding') as encoding,
    r.rolname as role, current_database() as database, r.rolsuper as superuser, r.rolreplication as replication,
    r.rolconnlimit as "roleConnectionsMost",
    exists (select from pg_roles where rolname = 'rds_replication') as "onRds",
    exists (select from pg_roles where rolname = 'rds_replication' and pg_has_role(oid, 'MEMBER')) as "rdsReplication",
    has_database_privilege(current_database(), 'CREATE') as "mayCreateInDatabase",
    current_setting('wal_level') as "walLevel",
    ${setting("max_replication_slots")} as "slotsMost",
    (select count(*)::int from pg_replication_slots) as "slotsUsed",
    ${setting("max_wal_senders")} as "walSendersMost",
    (select count(*)::int from pg_stat_replication) as "walSendersUsed",
    ${setting("wal_sender_timeout")} as "walSenderTimeoutMs",
    ${setting("max_slot_wal_keep_size")} as "slotWalKeepMb",
    ${setting("logical_decoding_work_mem")} as "decodingMemoryKb",
    coalesce(current_setting('idle_replication_slot_timeout', true), '0') as "idleSlotTimeout",
    ${setting("max_connections")} - ${setting("superuser_reserved_connections")}
      - coalesce(${setting("reserved_connections")}, 0) as "connectionsMost",
    (select sum(numbackends)::int from pg_stat_database) as "connectionsUsed"
  from pg_roles r where r.rolname = current_user`;

/** Beside the copying connections: the stream, its snapshot's exporter, catalog and metadata. */
const OTHER_CONNECTIONS = 4;
/** The walsender must hear from us at least that often whatever happens; status goes out every 10 s. */
const WAL_SENDER_TIMEOUT_LEAST_MS = 30_000;
const SLOT_WAL_KEEP_LEAST_MB = 1024;

/** Pure. */
export function serverFindings(server: ServerFacts, copyParallel: number): Finding[] {
  return [
    ...walLevel(server),
    ...replicationRight(server),
    ...slotFindings(server),
    ...walSenders(server),
    ...connections(server, copyParallel),
    ...settings(server),
  ];
}

function walLevel({ walLevel: level, onRds }: ServerFacts): Finding[] {
  if (level === "logical") return [];
  return finding(
    "error",
    "wal-level",
    "setting wal_level",
    `is ${level}, logical replication needs logical`,
    onRds
      ? "set rds.logical_replication = 1 in the parameter group and reboot"
      : "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
  );
}

function replicationRight({ superuser, replication, rdsReplication, onRds, role }: ServerFacts): Finding[] {
  if (superuser || replication || rdsReplication) return [];
  return finding(
    "error",
    "replication-right",
    `role ${role}`,
    "may not replicate",
    onRds ? `GRANT rds_replication TO ${quoteRole(role)};` : `ALTER ROLE ${quoteRole(role)} REPLICATION;`,
  );
}

function slotFindings({ slots, slotsMost, slotsUsed, database }: ServerFacts): Finding[] {
  const needed = slots.filter((slot) => !slot.exists).length;
  return [
    ...slots.flatMap((slot) => oneSlot(slot, database)),
    ...capacity("max_replication_slots", "no-free-slot", slotsMost, slotsUsed, needed, "replication slots"),
  ];
}

function oneSlot(slot: SlotState, database: string): Finding[] {
  const findings: Finding[] = [];
  if (slot.exists) {
    const subject = `replication slot ${slot.name}`;
    if (slot.plugin !== "pgoutput" || slot.database !== database || slot.temporary) {
      const whose = `of plugin ${slot.plugin ?? "none (physical)"} in database ${slot.database ?? "none"}`;
      findings.push(
        ...finding("error", "slot-taken", subject, `exists and is not ours: ${whose}`, "choose another group name"),
      );
    } else if (slot.invalidationReason !== null) {
      const fix = "raise max_slot_wal_keep_size, then run pg-flo replicate --resync";
      findings.push(...finding("error", "slot-lost", subject, `was invalidated (${slot.invalidationReason})`, fix));
    } else if (slot.active) {
      findings.push(
        ...finding("info", "slot-active", subject, `is read by process ${slot.activePid} of the server`, ""),
      );
    }
  }
  return findings;
}

function walSenders({ slots, walSendersMost, walSendersUsed }: ServerFacts): Finding[] {
  const needed = slots.filter((slot) => !slot.exists || !slot.active).length;
  return capacity("max_wal_senders", "no-free-wal-sender", walSendersMost, walSendersUsed, needed, "walsenders");
}

/** One for each stream, and one more from time to time for the snapshot of tables that come later. */
function capacity(name: string, code: string, most: number, used: number, needed: number, what: string): Finding[] {
  const free = most - used;
  if (free > needed) return [];
  const raise = `ALTER SYSTEM SET ${name} = ${Math.max(most, used) + needed + 1 - Math.min(free, 0)}; then restart the server`;
  const unused =
    name === "max_replication_slots"
      ? ", or drop one that SELECT slot_name FROM pg_replication_slots WHERE NOT active; shows to be unused"
      : "";
  const subject = `setting ${name}`;
  if (free < needed) {
    return finding("error", code, subject, `is ${most} and ${used} ${what} are in use: none is free`, raise + unused);
  }
  const message = `is ${most} and ${used} ${what} are in use: one more is needed for tables that are added later`;
  return finding("warning", `${code}-later`, subject, message, raise + unused);
}

function connections(server: ServerFacts, copyParallel: number): Finding[] {
  const needed = copyParallel + OTHER_CONNECTIONS;
  const free = server.connectionsMost - server.connectionsUsed;
  const fix = "lower copy.parallel";
  if (server.roleConnectionsMost >= 0 && server.roleConnectionsMost < needed && !server.superuser) {
    const message = `may open ${server.roleConnectionsMost} connections, a worker needs up to ${needed}`;
    const alter = `ALTER ROLE ${quoteRole(server.role)} CONNECTION LIMIT ${needed};`;
    return finding("warning", "connection-limit", `role ${server.role}`, message, `${alter} or ${fix}`);
  }
  if (free >= needed) return [];
  const message = `leaves ${Math.max(free, 0)} free connections, a worker needs up to ${needed}`;
  return finding("warning", "few-connections", "setting max_connections", message, `raise it, or ${fix}`);
}

function settings(server: ServerFacts): Finding[] {
  const findings: Finding[] = [];
  if (server.walSenderTimeoutMs > 0 && server.walSenderTimeoutMs < WAL_SENDER_TIMEOUT_LEAST_MS) {
    const message = `is ${server.walSenderTimeoutMs} ms: a short stall of the network ends the stream`;
    const fix = `ALTER ROLE ${quoteRole(server.role)} SET wal_sender_timeout = '60s';`;
    findings.push(...finding("warning", "wal-sender-timeout", "setting wal_sender_timeout", message, fix));
  }
  const keep = `ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();`;
  if (server.slotWalKeepMb < 0) {
    const message = "is unlimited: while pg-flo does not run, WAL fills the server's disk";
    findings.push(
      ...finding("info", "slot-wal-keep", "setting max_slot_wal_keep_size", message, `${keep} or monitor it`),
    );
  } else if (server.slotWalKeepMb < SLOT_WAL_KEEP_LEAST_MB) {
    const message = `is ${server.slotWalKeepMb} MB: after that much WAL without pg-flo its slot is lost, and all is copied again`;
    findings.push(...finding("warning", "slot-wal-keep", "setting max_slot_wal_keep_size", message, keep));
  }
  if (!/^0/.test(server.idleSlotTimeout)) {
    const message = `is ${server.idleSlotTimeout}: a slot that is not read for so long is lost, and all is copied again`;
    const fix = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();";
    findings.push(...finding("warning", "idle-slot-timeout", "setting idle_replication_slot_timeout", message, fix));
  }
  const memory = `is ${server.decodingMemoryKb} kB: bigger transactions are sent while they run, or spilled at the server`;
  const raise = `ALTER ROLE ${quoteRole(server.role)} SET logical_decoding_work_mem = '256MB'; if they are common`;
  findings.push(...finding("info", "decoding-memory", "setting logical_decoding_work_mem", memory, raise));
  if (server.encoding === "SQL_ASCII") {
    const message = "is SQL_ASCII: text that is not UTF-8 is kept exactly in _pg_flo_exact only";
    findings.push(...finding("info", "sql-ascii", `encoding of database ${server.database}`, message, ""));
  }
  return findings;
}

function finding(
  severity: Finding["severity"],
  code: string,
  subject: string,
  message: string,
  fix: string,
): Finding[] {
  return [{ severity, code, subject, message, fix }];
}
