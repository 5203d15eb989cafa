// `pg-flo clean`: removes files that no manifest will ever list, as a crash leaves them. Asks first; `--dry-run` only tells.
import { PgFloError } from "../base/errors.ts";
import { escapeControls } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { parseDurationMs } from "../config/quantity.ts";
import { readGroup } from "../metadata/groups.ts";
import { readWorkers } from "../metadata/workers.ts";
import { openStorage } from "../storage/open.ts";
import { findOrphans, ORPHAN_AGE_MS, type Orphan, removeOrphans } from "../worker/orphans.ts";
import { confirm } from "./confirmation.ts";
import type { Invocation, Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { printJson } from "./output.ts";
import { formatSize } from "./quantity-text.ts";
import { withSession } from "./session.ts";
import { isAlive } from "./status-document.ts";

interface CleanOptions {
  readonly olderThan?: string;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

type CleanInvocation = Invocation<CleanOptions> & { readonly config: Config };

export const registerClean: Register = (program, context) => {
  program
    .command("clean")
    .description("remove files that a crash left; never one that the manifest lists or may still list")
    .option("--older-than <duration>", "leave younger ones alone (default: 24h)")
    .option("--dry-run", "only list them")
    .option("--yes", "do not ask")
    .action(withConfig<CleanOptions>(context, (invocation) => runClean(invocation)));
};

/** Below this the upload of a live worker may be met. */
const BESIDE_WORKERS_MS = 3_600_000;
/** Paths that are shown before the question. */
const SHOWN_MAX = 20;

async function runClean(invocation: CleanInvocation): Promise<void> {
  const { config, options, globals, stdout } = invocation;
  const olderThanMs = parseAge(options.olderThan);
  await withSession(config.metadata, { group: config.group, what: "clean" }, async (db) => {
    const storage = openStorage(config.storage);
    const group = await readGroup(db, config.group);
    if (group.storageUrl !== storage.url) {
      throw new PgFloError(
        "CONFIG_INVALID",
        `group ${config.group}, storage, its files are in ${group.storageUrl}, the config says ${storage.url}`,
        { fix: "name the storage that the group was made with" },
      );
    }
    const workers = (await readWorkers(db, config.group)).filter((worker) => isAlive(worker, config.leaseMs));
    if (workers.length > 0 && olderThanMs < BESIDE_WORKERS_MS) {
      throw new PgFloError("CONFIG_INVALID", `command line, --older-than, ${workers.length} worker(s) run`, {
        fix: "give 1h or more, or stop them first",
      });
    }
    const orphans: Orphan[] = [];
    const search = { db, storage, group: config.group, olderThanMs };
    for await (const orphan of findOrphans(search)) orphans.push(orphan);
    if (!options.dryRun && !options.yes && orphans.length > 0) await ask(invocation, orphans);
    const removed = options.dryRun ? 0 : await removeOrphans(orphans);
    if (globals.json) return printJson(stdout, document(config, orphans, removed));
    await stdout.write(options.dryRun ? listText(orphans, orphans.length) : `removed ${describe(orphans)}\n`);
  });
}

function parseAge(text: string | undefined): number {
  const parsed = text === undefined ? ORPHAN_AGE_MS : parseDurationMs(text);
  if (parsed !== undefined) return parsed;
  throw new PgFloError("CONFIG_INVALID", `command line, --older-than is ${JSON.stringify(text)}`, {
    fix: "give a duration such as 24h or 90m",
  });
}

async function ask({ config, stderr }: CleanInvocation, orphans: readonly Orphan[]): Promise<void> {
  if (!process.stdin.isTTY) {
    throw new PgFloError("CONFIG_INVALID", "command line, clean asks first, and there is no terminal to ask on", {
      fix: "give --yes, or --dry-run to see what it would remove; nothing was removed",
    });
  }
  await stderr.write(listText(orphans, SHOWN_MAX));
  if (await confirm(process.stdin, process.stderr, "Remove them? [y/N] ")) return;
  throw new PgFloError("CANCELLED", `clean group ${config.group}, not confirmed`);
}

function listText(orphans: readonly Orphan[], shownMax: number): string {
  const lines = orphans.slice(0, shownMax).map(({ path, sizeBytes, modifiedAt }) => {
    const size = sizeBytes === null ? "unfinished" : formatSize(sizeBytes);
    return `  ${modifiedAt.toISOString()}  ${size.padStart(10)}  ${escapeControls(path)}\n`;
  });
  const more = orphans.length > shownMax ? `  and ${orphans.length - shownMax} more\n` : "";
  return `${lines.join("")}${more}${describe(orphans)}\n`;
}

function describe(orphans: readonly Orphan[]): string {
  const sizeBytes = orphans.reduce((sum, orphan) => sum + (orphan.sizeBytes ?? 0), 0);
  return `${orphans.length} files, ${formatSize(sizeBytes)}`;
}

function document(config: Config, orphans: readonly Orphan[], removed: number) {
  return {
    group: config.group,
    removed,
    orphans: orphans.map(({ path, sizeBytes, modifiedAt }) => ({ path, sizeBytes, modifiedAt })),
  };
}
