// `pg-flo init`: a config to start from, or, when there is one, the metadata that replication needs. Makes no slot: one
// that nobody reads keeps WAL. An existing config is never changed, and nothing is made before `check` would pass.
import { writeFileSync } from "node:fs";
import { PgFloError } from "../base/errors.ts";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load.ts";
import { starterConfig } from "../config/starter.ts";
import { registerGroup } from "../metadata/groups.ts";
import { openMetadata } from "../metadata/migrations.ts";
import { openStorage } from "../storage/open.ts";
import type { Register } from "./context.ts";
import { withLog } from "./context.ts";
import { inspect } from "./inspection.ts";
import { inspectionDocument, printInspection, refuseErrors } from "./inspection-report.ts";
import { type Output, printJson } from "./output.ts";
import { withSession } from "./session.ts";

export const registerInit: Register = (program, context) => {
  program
    .command("init")
    .description("write a config to start from; if there is one already, check it and make the metadata")
    .action(
      withLog(context, async ({ globals, stdout, env }) => {
        const file = globals.config;
        if (!writeStarterConfig(file)) {
          return initGroup(stdout, loadConfig(file, env), file, globals.json === true);
        }
        if (globals.json) return printJson(stdout, { config: file, created: true });
        await stdout.write(`wrote ${file}: set source, storage and schemas in it, then run pg-flo check\n`);
      }),
    );
};

async function initGroup(output: Output, config: Config, file: string, json: boolean): Promise<void> {
  const inspection = await inspect(config);
  const failed = inspection.findings.some(({ severity }) => severity === "error");
  const document = { config: file, created: false, group: config.group, registered: !failed };
  if (json && failed) await printJson(output, { ...document, ...inspectionDocument(inspection) });
  if (!json) await printInspection(output, inspection);
  refuseErrors(inspection, "init");
  await createMetadata(config, inspection.systemIdentifier);
  if (json) return printJson(output, { ...document, ...inspectionDocument(inspection) });
  await output.write(`\ngroup ${config.group} is registered; next: pg-flo replicate\n`);
}

async function createMetadata(config: Config, systemIdentifier: string | null): Promise<void> {
  if (systemIdentifier === null) {
    throw new PgFloError("INTERNAL", `group ${config.group}, source, has no system identifier after a clean check`);
  }
  await withSession(config.metadata, { group: config.group, what: "init" }, async (client) => {
    await openMetadata(client);
    await registerGroup(client, {
      name: config.group,
      systemIdentifier,
      sourceDatabase: config.source.database,
      storageUrl: openStorage(config.storage).url,
    });
  });
}

/** Writes the starter config unless the file exists; true when it was written. */
export function writeStarterConfig(path: string): boolean {
  try {
    writeFileSync(path, starterConfig(), { flag: "wx" });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    throw new PgFloError("CONFIG_INVALID", `${path}, cannot be written (${code})`, {
      fix: "name a file in a folder that this user may write with --config FILE",
      cause: error,
    });
  }
}
