// Named places where a test ends, fails or delays the process: one at every crash window. Tests alone arm them, by the
// environment variable PG_FLO_FAILPOINTS, in a checkout; the npm package (compiled, *.js) never looks at it.
// It refuses names and actions that it does not know, and knows nothing of what happens at a place.
//
//   PG_FLO_FAILPOINTS="batch.before-commit:2=kill, spill.written=error(STORAGE_FULL), lease.renewed=delay(3000)"
//
// `:2` is the second time that a thread gets there. `kill` ends the process as SIGKILL does, from a copier's thread too;
// `error` throws there, INTERNAL unless another code is named; `delay` keeps the whole thread from running, in
// milliseconds, as a system does that has no time for it. Off, a failpoint is one comparison.
import { writeSync } from "node:fs";
import { type ErrorCode, errorPolicies, PgFloError } from "./errors.ts";

/** Every failpoint and its window. Each is in the code exactly once and has a test (test/chaos/failpoints.ts). */
export const failpoints = {
  "migration.applied": "a migration ran, its transaction is open",
  "migration.committed": "schema _pg_flo is new, nothing is in it",
  "group.registered": "the group is known, no worker is",
  "worker.joined": "the worker is known and holds nothing",
  "worker.dead-released": "the leases of a worker that died are free, nobody took them",
  "stream.registered": "the stream's row is there, nobody owns it",
  "stream.claimed": "the stream is owned, its slot may not be there",
  "tables.in-registration": "the tables are being registered",
  "tables.registered": "the tables are registered; files of those that begin anew are still there",
  "tables.published": "tables that come are published, and not registered",
  "table.retried": "a failed table begins anew",
  "request.in-transaction": "tables are being paused, resumed or begun anew by an operator",
  "table.begun-anew": "a table's files left the manifest, and are still there",
  "publication.created": "the publications are there, empty",
  "publication.altering": "tables are being published",
  "publication.altered": "tables are published, no slot knows of them",
  "slot.unfinished-dropped": "the slot of a start that did not get far is dropped",
  "snapshot.exported": "a slot is there, its snapshot held by nobody but its creation",
  "slot.created": "the stream's slot is there, its point C is stored nowhere",
  "slot.given-up": "a slot is dropped to save the source's disk, its stream is not known to be lost",
  "slot.in-activation": "C is being stored",
  "slot.activated": "C is stored, nothing is copied",
  "cut.awaited": "changes of later tables are held, their slot is not asked for",
  "cut.slot-created": "the temporary slot's point is known, the stream is not told",
  "cut.held-put": "the held changes are in a batch of their own",
  "cut.in-commit": "the cut of later tables is being stored with their held changes",
  "cut.stored": "the cut of later tables is stored, nothing of them is copied",
  "snapshot.imported": "another worker's snapshot is held, nobody knows",
  "snapshot.registered": "a snapshot is held, and others may take it over",
  "cut.copy-only-stored": "the cut of copy-only tables is stored",
  "copy.planned": "the ranges of a table are stored",
  "copy.range-claimed": "a range has an owner",
  "copy.snapshot-imported": "a copier's thread reads in the snapshot",
  "copy.range-read": "all rows of a range are read, its last file is not finished",
  "copy.file-durable": "a range's file is durable",
  "copy.before-range-commit": "all files of a range are durable, none is in the manifest",
  "copy.in-range-commit": "a range's files are being listed",
  "copy.after-range-commit": "a range is done, its worker was not told",
  "completion.keys-found": "rows of a resumed copy are known to lack values, none is read",
  "completion.files-durable": "the files that complete a resumed copy are durable, none is in the manifest",
  "completion.in-commit": "the files that complete a resumed copy are being listed",
  "completion.committed": "a resumed copy is complete, its worker was not told",
  "copy.table-failing": "the error of a table whose copy failed is stored",
  "file.synced": "a file's bytes are on the disk, under a temporary name",
  "file.renamed": "a file has its name, which may not be on the disk",
  "stream.taken": "the stream's epoch is raised, its slot is not read",
  "stream.marked-lost": "the stream is known to be lost",
  "stream.table-failed": "the error of a table is stored, the batch behind it is not",
  "definition.storing": "the next version of a table is about to be stored, the stream stands before its first change",
  "definition.refused": "a table's error is stored because no version has the definition that its changes have",
  "definition.stored": "the next version of a table is stored, the stream does not know it",
  "stream.position-moved": "an idle stream's position is stored, the slot is not told",
  "consolidate.done": "a transaction is brought together, its rows are in the open batch",
  "batch.encoded": "some tables of a batch are encoded",
  "batch.file-durable": "a file of a batch is durable, others may not be",
  "batch.closed": "a batch is closed, its files are not finished",
  "batch.files-durable": "all files of a batch are durable, none is in the manifest",
  "batch.before-commit": "it is a batch's turn",
  "batch.in-commit": "a batch's files are being listed and the position moved",
  "batch.after-commit": "a batch is durable, files that it was refused are still there",
  "batch.before-confirm": "a batch is durable, the slot is not told",
  "batch.confirmed": "the slot is told, or soon will be",
  "spill.named": "a file of spilled changes still has a name",
  "spill.written": "some changes of a transaction are spilled",
  "spill.part-loaded": "a part of a spilled transaction is read back",
  "spill.split": "a part that was too large is split",
  "spill.closed": "a file of spilled changes gave its space back",
  "repair.files-durable": "a repair's files are durable, none is in the manifest",
  "repair.before-commit": "nothing of a repair is in the manifest",
  "repair.in-commit": "a repair's files are being listed, damaged ones taken out",
  "repair.committed": "a repair is durable, the one who asked was not told",
  "recovery.slot-dropped": "a lost slot is dropped, the new one is not there",
  "recovery.slot-created": "a new slot is there, its stream is still lost",
  "recovery.files-durable": "the difference between the mirror and the new slot's point is durable, in no manifest",
  "recovery.in-commit": "the difference is being listed, the stream goes on at the new slot",
  "recovery.committed": "the stream is recovered, nobody reads it",
  "lease.renewed": "the leases are renewed",
  "worker.releasing": "all work has ended, the leases are held",
  "worker.released": "the leases are free, the process still runs",
  "compact.claimed": "a table's files are going to be merged, nothing is written",
  "compact.file-durable": "a merged file is durable, the manifest has those that it was made of",
  "compact.in-commit": "merged files are being listed and those that they were made of are leaving",
  "compact.after-commit": "merged files are listed, the table is still held",
  "compact.folded": "a table's base is durable, the manifest has what it was made of",
  "compact.retired-removed": "files that left the manifest long ago are gone, and still known",
  "drop.metadata-first": "drop --force took the metadata away, slot and publications are there",
  "drop.in-metadata": "the metadata are being taken away",
  "drop.slot-dropped": "a slot is gone, publications and metadata are there",
  "drop.publications-dropped": "slots and publications are gone, the metadata are there",
  "drop.metadata-dropped": "the metadata are gone, the files are there",
  "drop.file-removed": "some files are gone",
} as const satisfies Record<string, string>;

export type Failpoint = keyof typeof failpoints;

type Action =
  | { readonly kind: "kill" }
  | { readonly kind: "error"; readonly code: ErrorCode }
  | { readonly kind: "delay"; readonly ms: number };

interface Armed {
  readonly action: Action;
  /** How often it is still passed. */
  left: number;
}

const inCheckout = import.meta.url.endsWith(".ts");
let armed: Map<Failpoint, Armed> | null = null;
armFailpoints(process.env.PG_FLO_FAILPOINTS);

/** Passes, unless a test armed it. */
export function failpoint(name: Failpoint): void {
  if (armed !== null) reach(armed, name);
}

/** Arms what the text says (see above) in this thread, instead of what was armed; undefined for nothing. */
export function armFailpoints(text: string | undefined): void {
  const wishes = inCheckout ? (text ?? "").split(",").filter((wish) => wish.trim() !== "") : [];
  armed = wishes.length === 0 ? null : new Map(wishes.map(parseWish));
}

function parseWish(wish: string): [Failpoint, Armed] {
  const [, name = "", nth = "1", kind, argument] = /^\s*([\w.-]+)(?::(\d+))?=(\w+)(?:\((\w+)\))?\s*$/.exec(wish) ?? [];
  const action = actionOf(kind, argument);
  if (!(name in failpoints) || action === null || Number(nth) < 1) {
    throw new PgFloError("CONFIG_INVALID", `PG_FLO_FAILPOINTS, ${wish.trim()}, is not name[:nth]=kill|error|delay(ms)`);
  }
  return [name as Failpoint, { action, left: Number(nth) - 1 }];
}

function actionOf(kind: string | undefined, argument: string | undefined): Action | null {
  if (kind === "kill" && argument === undefined) return { kind };
  if (kind === "delay" && Number(argument) > 0) return { kind, ms: Number(argument) };
  if (kind === "error" && (argument === undefined || argument in errorPolicies)) {
    return { kind, code: (argument ?? "INTERNAL") as ErrorCode };
  }
  return null;
}

function reach(all: Map<Failpoint, Armed>, name: Failpoint): void {
  const one = all.get(name);
  if (one === undefined || one.left-- > 0) return;
  all.delete(name);
  const { action } = one;
  writeSync(2, `failpoint ${name}: ${action.kind}\n`); // now: nothing comes after it
  if (action.kind === "error") throw new PgFloError(action.code, `failpoint ${name}, armed by a test`);
  if (action.kind === "kill") process.kill(process.pid, "SIGKILL");
  else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, action.ms);
}
