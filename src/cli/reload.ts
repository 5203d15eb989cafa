// `pg-flo reload`: has the running workers read their config again, and tells what each of them says. The config of this
// command's own is checked first: a mistake in it is told here, and no worker is asked.
import { setTimeout as sleep } from "node:timers/promises";
import { PgFloError } from "../base/errors.ts";
import { escapeControls } from "../base/log.ts";
import { readGroup } from "../metadata/groups.ts";
import { readReloadAnswers, requestReload, type WorkerReload } from "../metadata/requests.ts";
import type { Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { type Output, printJson } from "./output.ts";
import { withSession } from "./session.ts";

/** Workers look every second; reading the catalog of thousands of tables takes a while. */
const ANSWER_TIMEOUT_MS = 60_000;
const POLL_MS = 200;

export const registerReload: Register = (program, context) => {
  program
    .command("reload")
    .description("have the running workers read their config again; a wrong one is refused and the old one stays")
    .action(
      withConfig(context, async ({ config, globals, stdout }) => {
        const name = { group: config.group, what: "reload" };
        const workers = await withSession(config.metadata, name, async (db) => {
          await readGroup(db, config.group);
          const reload = await requestReload(db, config.group);
          for (const deadline = performance.now() + ANSWER_TIMEOUT_MS; ; await sleep(POLL_MS)) {
            const all = await readReloadAnswers(db, config.group, reload);
            const waited = all.filter(
              ({ answer, heartbeatAgeMs }) => answer !== null || heartbeatAgeMs < config.leaseMs,
            );
            if (waited.every(({ answer }) => answer !== null) || performance.now() > deadline) return waited;
          }
        });
        await (globals.json
          ? printJson(stdout, { group: config.group, workers: workers.map(workerDocument) })
          : printWorkers(stdout, workers));
        refuseUnaccepted(config.group, workers);
      }),
    );
};

function workerDocument({ workerId: id, host, pid, answer }: WorkerReload) {
  return { id, host, pid, accepted: answer?.accepted ?? null, lines: answer?.lines ?? [] };
}

async function printWorkers(output: Output, workers: readonly WorkerReload[]): Promise<void> {
  if (workers.length === 0) await output.write("no worker runs: the config is read when pg-flo replicate starts\n");
  for (const { host, pid, answer } of workers) {
    const heading =
      answer === null ? "did not answer yet" : answer.accepted ? "took the config" : "kept the old config";
    const lines = [`${host}:${pid} ${heading}`, ...(answer?.lines ?? []).map((line) => `  ${line}`)];
    await output.write(lines.map((line) => `${escapeControls(line)}\n`).join(""));
  }
}

function refuseUnaccepted(group: string, workers: readonly WorkerReload[]): void {
  const refused = workers.filter(({ answer }) => answer?.accepted !== true);
  if (refused.length === 0) return;
  const names = refused.map(({ host, pid }) => `${host}:${pid}`).join(", ");
  throw new PgFloError(
    "RELOAD_REFUSED",
    `reload of group ${group}, ${refused.length} worker(s) did not take the config: ${names}`,
  );
}
