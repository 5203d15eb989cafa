// `pg-flo init`: a config to start from. An existing file is checked and never changed.
import { writeFileSync } from "node:fs";
import { PgFloError } from "../base/errors.ts";
import { loadConfig } from "../config/load.ts";
import { starterConfig } from "../config/starter.ts";
import type { Register } from "./context.ts";
import { withLog } from "./context.ts";
import { printJson } from "./output.ts";

export const registerInit: Register = (program, context) => {
  program
    .command("init")
    .description("write a config to start from; if there is one already, check it")
    .action(
      withLog(context, async ({ globals, stdout, env }) => {
        const created = writeStarterConfig(globals.config);
        if (!created) loadConfig(globals.config, env);
        if (globals.json) return printJson(stdout, { config: globals.config, created });
        await stdout.write(
          created
            ? `wrote ${globals.config}: set source, storage and schemas in it, then run pg-flo check\n`
            : `${globals.config} is there and valid, nothing was changed\n`,
        );
      }),
    );
};

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
