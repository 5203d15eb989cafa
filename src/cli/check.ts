// `pg-flo check`: what would go wrong, each with its fix, before anything is created. `--grants` prints the rights that
// a role of least privilege needs.
import { PgFloError } from "../base/errors.ts";
import { escapeControls } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { connectionName } from "../postgres/connect.ts";
import { grantsScript } from "../postgres/grants.ts";
import { openStorage } from "../storage/open.ts";
import { discover } from "../worker/discovery.ts";
import type { Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { inspect } from "./inspection.ts";
import { inspectionDocument, printInspection, refuseErrors } from "./inspection-report.ts";
import { type Output, printJson } from "./output.ts";
import { withSession } from "./session.ts";

interface CheckOptions {
  readonly grants?: string;
}

export const registerCheck: Register = (program, context) => {
  program
    .command("check")
    .description("tell what would go wrong, each with its fix; creates nothing")
    .option("--grants <role>", "print the SQL that gives a role the least rights it needs, and do nothing else")
    .action(
      withConfig<CheckOptions>(context, async ({ config, globals, options, stdout }) => {
        const json = globals.json === true;
        if (options.grants !== undefined) return printGrants(stdout, config, options.grants, json);
        const inspection = await inspect(config);
        if (json) await printJson(stdout, inspectionDocument(inspection));
        else {
          const storage = openStorage(config.storage).url;
          const heading = `group ${config.group}: ${connectionName(config.source)} to ${storage}`;
          await stdout.write(`${escapeControls(heading)}\n\n`);
          await printInspection(stdout, inspection);
        }
        refuseErrors(inspection, "check");
        if (!json) await stdout.write("\ncheck passed; next: pg-flo replicate\n");
      }),
    );
};

async function printGrants(output: Output, config: Config, role: string, json: boolean): Promise<void> {
  if (role === "" || Buffer.byteLength(role) > 63 || role.includes("\0")) {
    throw new PgFloError("CONFIG_INVALID", "command line, --grants, is not a role's name, allowed are 1 to 63 bytes", {
      fix: "name the role that pg-flo is to connect as",
    });
  }
  const script = await withSession(config.source, { group: config.group, what: "check" }, async (client) => {
    const { catalog, selection } = await discover(client, config);
    const { group, source } = config;
    const { serverVersion } = catalog;
    return grantsScript({ role, database: source.database, group, tables: selection.tables, serverVersion });
  });
  await (json ? printJson(output, { grants: script }) : output.write(script));
}
