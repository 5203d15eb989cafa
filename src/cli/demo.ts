// `pg-flo demo`: what a stranger sees first. Runs the demo and tells it in a few lines; the exit code is the proof's.
import type { Command } from "commander";
import { PgFloError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type DemoEvent, type DemoResult, runDemo } from "../demo/demo.ts";
import type { TableComparison } from "../verify/compare.ts";
import { type CliContext, withLog } from "./context.ts";
import { DemoView } from "./demo-view.ts";
import { printJson } from "./output.ts";
import { stopSignal } from "./stop-signal.ts";

interface DemoOptions {
  readonly once?: boolean;
  readonly folder: string;
}

export function registerDemo(program: Command, context: CliContext): void {
  program
    .command("demo")
    .description(
      "see it work, without a server: a shop in a PostgreSQL of its own becomes Parquet files; Ctrl-C ends it",
    )
    .option("--once", "end by itself, in under a minute; the exit code tells whether source and files are equal")
    .option("--folder <dir>", "where the files go; an earlier demo's folder is replaced", "pg-flo-demo")
    .action(
      withLog<DemoOptions>(context, async ({ options, globals, log, stdout }) => {
        const json = globals.json === true;
        const view = new DemoView(stdout, { once: options.once === true, quiet: json });
        const signal = stopSignal({ ...log, info: () => {} });
        signal.addEventListener("abort", () => view.interrupted(), { once: true });
        let result: DemoResult;
        try {
          const onEvent = (event: DemoEvent) => view.show(event);
          const demo = { once: options.once === true, folder: options.folder, log: view.log(quiet(log)), onEvent };
          result = await runDemo(demo, signal);
        } finally {
          view.close();
        }
        if (json) await printJson(stdout, documentOf(result));
        else await view.result(result);
        if (!result.equal) throw unequal(result.tables);
      }),
    );
}

/** What a worker tells an operator; here the view tells it, and warnings are about a shop that is made to be odd. */
function quiet(log: Log): Log {
  return { ...log, info: log.debug, warn: log.debug, child: (facts) => quiet(log.child(facts)) };
}

function documentOf({ folder, ...result }: DemoResult) {
  return { ...result, folder: folder.path, config: folder.config, views: folder.views };
}

function unequal(tables: readonly TableComparison[]): PgFloError {
  const names = tables.filter(({ equal }) => !equal).map(({ schema, name }) => `${schema}.${name}`);
  const what = names.length > 0 ? names.join(", ") : "the answer to the query";
  return new PgFloError("UNEQUAL", `demo, proof, source and files differ in ${what}`);
}
