// `pg-flo reload` at the worker: reads the config again, takes over what can change while it runs, and answers. A config
// that is wrong, or that the source contradicts, is refused with all mistakes, and nothing changes.
import { isDeepStrictEqual } from "node:util";
import { PgFloError } from "../base/errors.ts";
import type { Config } from "../config/config.ts";
import { configChanges } from "../config/config-changes.ts";
import { addEvent } from "../metadata/events.ts";
import { answerReload, type ReloadAnswer } from "../metadata/requests.ts";
import type { Definitions } from "./definitions.ts";
import { discover } from "./discovery.ts";
import type { RefreshOptions, WorkerContext } from "./preparation.ts";
import { onSource } from "./source-connection.ts";
import { tableConfig } from "./table-config.ts";

export interface ReloadsOptions {
  readonly context: WorkerContext;
  readonly workerId: string;
  readonly definitions: Definitions;
  /** Absent: the worker was given a config that is in no file. */
  readonly loadConfig?: (() => Config) | undefined;
  readonly refresh: (config: Config, how: RefreshOptions) => Promise<void>;
}

export class Reloads {
  readonly #options: ReloadsOptions;
  constructor(options: ReloadsOptions) {
    this.#options = options;
  }

  /** `asked`: the newest reload of the group. */
  async answer(asked: bigint): Promise<void> {
    const { context, definitions, workerId, loadConfig } = this.#options;
    const before = definitions.answeredReload;
    if (before === asked) return;
    // One that was asked for while this worker began may be newer than what it began with.
    if (asked > 0n && (before !== null || loadConfig)) {
      const answer = await this.#reload();
      if (before !== null) await this.#tell(answer);
      await answerReload(context.db, { workerId, reload: asked, ...answer });
    }
    definitions.answeredReload = asked;
  }

  async #reload(): Promise<ReloadAnswer> {
    const { definitions, loadConfig, refresh } = this.#options;
    const running = definitions.config;
    try {
      if (!loadConfig) throw new PgFloError("CONFIG_INVALID", "config, file, this worker was not started with one");
      const { config, taken, waiting } = configChanges(running, loadConfig());
      if (taken.length === 0) return { accepted: true, lines: changeLines(taken, waiting) };
      await this.#refuseProblems(config);
      const mended = ({ schema, name }: { readonly schema: string; readonly name: string }) =>
        !isDeepStrictEqual(tableConfig(running, schema, name), tableConfig(config, schema, name));
      await refresh(config, { mended });
      return { accepted: true, lines: changeLines(taken, waiting) };
    } catch (error) {
      // What is tried again is: the source or the metadata do not answer now.
      if (!(error instanceof PgFloError) || error.action === "retry" || error.code === "INTERNAL") throw error;
      return { accepted: false, lines: error.message.split("\n").filter((line) => line !== "") };
    }
  }

  /** Names that the source does not have, columns that cannot be left out: as at a start. */
  async #refuseProblems(config: Config): Promise<void> {
    const { selection } = await onSource(config, "read the catalog", (source) => discover(source, config));
    const errors = selection.problems.filter(({ severity }) => severity === "error");
    if (errors.length === 0) return;
    const lines = errors.map(({ subject, message, fix }) => `\n  ${subject}: ${message}; ${fix}`);
    throw new PgFloError("PREFLIGHT_FAILED", `${errors.length} thing(s) would go wrong:${lines.join("")}\n`);
  }

  async #tell({ accepted, lines }: ReloadAnswer): Promise<void> {
    const { config, db, log } = this.#options.context;
    const message = `${accepted ? "the config was read again" : "the config was refused, the old one stays"}: ${lines.join("; ")}`;
    log[accepted ? "info" : "error"](message);
    const code = accepted ? "CONFIG_RELOADED" : "RELOAD_REFUSED";
    const severity = accepted ? "info" : "error";
    await addEvent(db, config.group, { severity, code, subject: `group ${config.group}`, message });
  }
}

function changeLines(taken: readonly string[], waiting: readonly string[]): string[] {
  return [
    taken.length === 0 ? "nothing changed that can change while it runs" : `changed at once: ${taken.join(", ")}`,
    ...(waiting.length === 0 ? [] : [`changes at the next start: ${waiting.join(", ")}`]),
  ];
}
