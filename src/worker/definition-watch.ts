// Looks from time to time whether definitions at the source are others than those that are stored. Most changes the stream
// meets by itself, at their place; this finds those that the log does not tell, or not yet: nobody writes to the table,
// NULLs are no longer allowed, rows were rewritten, a partition came or went, the table has another name.
//
// It is not the same look as the one of definitions-service.ts, which registers: this one may have to wait for its
// streams, for as long as they are behind, and tables that come and requests of operators must not wait for that. It only
// ever stores what goes on; what must be copied again it leaves to the other, so that one change is one copy.
import type { ClientBase } from "pg";
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import type { Lsn } from "../base/lsn.ts";
import { runService } from "../base/service.ts";
import type { WantedTable } from "../metadata/register-tables.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import { type DefinitionOptions, storeChange } from "./definition-changes.ts";
import type { Definitions } from "./definitions.ts";
import { type Discovery, discover, toWanted } from "./discovery.ts";
import { emptyLeavesAt, isFollowed, type PlannedChange, planChanges } from "./planned-changes.ts";
import { onSource } from "./source-connection.ts";
import type { StreamService } from "./stream-service.ts";
import { ToldTroubles } from "./told-troubles.ts";

const LOOK_MS = 10_000;
const REACHED_POLL_MS = 20;
const COPY_POLL_MS = 200;

export interface DefinitionWatchOptions extends Omit<DefinitionOptions, "config"> {
  readonly definitions: Definitions;
  /** Those of this worker: it looks after their tables alone. */
  readonly streams: () => readonly StreamService[];
  /** Writes into the log: everything that was committed before lies before the LSN that it gives. */
  readonly mark: () => Promise<Lsn>;
  /** The definitions must be read again, and tables copied. */
  readonly onTableChanged: () => void;
}

export class DefinitionWatch {
  readonly #options: DefinitionWatchOptions;
  readonly #troubles: ToldTroubles;
  /** What was dealt with. */
  #seen = "";

  constructor(options: DefinitionWatchOptions) {
    this.#options = options;
    this.#troubles = new ToldTroubles({ ...options, group: options.definitions.config.group });
  }

  /** Looks until the signal. */
  run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    return runService((inner) => this.#watch(inner), signal, { name: "definition watch", log, nothingToFinish: true });
  }

  async #watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#look(signal);
        this.#troubles.clear();
      } catch (error) {
        await this.#troubles.tell(error);
      }
      await systemClock.sleep(LOOK_MS, signal).catch(() => {}); // an abort ends the loop
    }
  }

  /** Looks now. True when all that was found is stored; false when something must be copied for it first. */
  async settle(signal: AbortSignal): Promise<boolean> {
    if (await this.#look(signal)) return true;
    await systemClock.sleep(COPY_POLL_MS, signal);
    return false;
  }

  async #look(signal: AbortSignal): Promise<boolean> {
    const now = await look(this.#options, this.#seen);
    if (now && now.seen !== this.#seen) {
      if (!(await apply(this.#options, now, signal))) return false;
      this.#seen = now.seen;
    }
    return true;
  }
}

interface Look {
  readonly seen: string;
  /** Absent when nothing is other than at the last look. */
  readonly found?: {
    readonly discovery: Discovery;
    readonly planned: readonly PlannedChange[];
    readonly moved: boolean;
  };
}

/** Null when the source cannot be reached now: the stream tells that. */
async function look({ definitions, db, streams }: DefinitionWatchOptions, before: string): Promise<Look | null> {
  const { config } = definitions;
  const own = new Set(streams().map(({ stream }) => stream));
  if (own.size === 0) return null;
  try {
    return await onSource(config, "the definitions", async (source) => {
      const tables = (await readTables(db, config.group)).filter(
        ({ stream, state }) => stream !== null && own.has(stream) && state !== "removed",
      );
      // A table that got its cut is held against the catalog once more: it was not while it waited.
      const followed = tables.filter(isFollowed).map(({ tableId, generation }) => `${tableId}/${generation}`);
      const seen = `${[...own].join()} ${followed.join()} ${await fingerprint(source, tables)}`;
      if (seen === before) return { seen };
      const discovery = await discover(source, config);
      const wanted = toWanted(discovery);
      const planned = await planChanges(db, config.group, tables, wanted, emptyLeavesAt(source));
      return { seen, found: { discovery, planned, moved: tables.some((table) => hasMoved(table, wanted)) } };
    });
  } catch (error) {
    if (error instanceof PgFloError && error.action === "retry") return null;
    throw error;
  }
}

/** It has another name, its name is another table's, or it is gone. */
function hasMoved(table: Table, wanted: readonly WantedTable[]): boolean {
  return !wanted.some(
    ({ oid, schema, name }) => oid === table.relationOid && schema === table.schema && name === table.name,
  );
}

/** Stores what changed. False: something must be copied for it, or the signal came. */
async function apply(watch: DefinitionWatchOptions, { found }: Look, signal: AbortSignal): Promise<boolean> {
  if (!found) return true;
  const options = { ...watch, config: watch.definitions.config };
  const { discovery, planned, moved } = found;
  if (moved || planned.some(({ change }) => change.kind === "copy")) {
    options.log.info("definitions changed, they are read again");
    options.onTableChanged();
    return false;
  }
  for (const each of planned) if (each.change.kind === "traces") await storeChange(options, each);
  const versions = Map.groupBy(
    planned.filter(({ change }) => change.kind === "version"),
    ({ table }) => table.stream,
  );
  if (versions.size === 0) return true;
  // A change that was logged with another definition stops its stream before here, and is dealt with there.
  const mark = await options.mark();
  for (const [number, changes] of versions) {
    const stream = await reached(options, number, mark, signal);
    if (signal.aborted) return false;
    if (!stream) continue; // another worker has it now, and looks too
    let stored = 0;
    for (const each of changes) if (await storeChange(options, each)) stored++;
    const columns = changes.flatMap(({ wanted }) => wanted.columns);
    if (stored > 0) stream.renew(discovery.types, columns);
  }
  return true;
}

/** The stream, when it has read everything up to the mark; null when it is no longer this worker's. */
async function reached(
  { streams }: DefinitionWatchOptions,
  number: number | null,
  mark: Lsn,
  signal: AbortSignal,
): Promise<StreamService | null> {
  while (!signal.aborted) {
    const stream = streams().find((each) => each.stream === number);
    if (!stream || (stream.progress?.reached ?? 0n) >= mark - 1n) return stream ?? null;
    await systemClock.sleep(REACHED_POLL_MS, signal).catch(() => {}); // an abort ends the loop
  }
  return null;
}

/** Everything that a change of a definition changes, in one text: much less to read than the catalog. */
async function fingerprint(source: ClientBase, tables: readonly Table[]): Promise<string> {
  const { rows } = await source.query<{ seen: string | null }>(
    `with wanted (oid) as (
       select unnest($1::oid[])
     ), heaps (root, oid) as (
       select oid, oid from wanted
       union select w.oid, t.relid::oid from wanted w join pg_class c on c.oid = w.oid and c.relkind = 'p',
         lateral pg_partition_tree(w.oid) t)
     select md5(string_agg(concat_ws(' ', h.root, h.oid, c.relname, c.relnamespace, n.nspname, c.relkind, c.relreplident,
         c.relnatts, c.relpersistence, pg_relation_filenode(c.oid), a.versions, i.versions), E'\n' order by h.root, h.oid)) as seen
     from heaps h join pg_class c on c.oid = h.oid join pg_namespace n on n.oid = c.relnamespace
       left join lateral (select string_agg(a.attnum || ':' || a.xmin, ',' order by a.attnum) as versions
         from pg_attribute a where a.attrelid = c.oid and a.attnum > 0) a on true
       left join lateral (select string_agg(concat_ws(':', i.indexrelid, i.indisprimary, i.indisreplident, i.indisvalid,
         i.indimmediate), ',' order by i.indexrelid) as versions
         from pg_index i where i.indrelid = c.oid and (i.indisprimary or i.indisreplident)) i on true`,
    [tables.map(({ relationOid }) => relationOid)],
  );
  return rows[0]?.seen ?? "none";
}
