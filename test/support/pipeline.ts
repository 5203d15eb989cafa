// A config in a folder of its own, and the command line run with it.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import { type CliOptions, type CliProcess, type CliResult, runCli, spawnCli } from "./cli.ts";
import { makeTestFolder } from "./folder.ts";
import type { TestDatabase } from "./postgres.ts";

export interface PipelineOptions {
  readonly group?: string;
  readonly source: ConnectionConfig;
  readonly metadata?: ConnectionConfig;
  readonly publication?: string;
  /** YAML; default: every table of schema public. */
  readonly schemas?: string;
  /** A folder, from the config's; default `data`. */
  readonly storage?: string;
}

export interface TestPipeline extends AsyncDisposable {
  readonly group: string;
  readonly folder: string;
  readonly dataFolder: string;
  readonly config: string;
  run(args: readonly string[], options?: CliOptions): Promise<CliResult>;
  spawn(args: readonly string[]): CliProcess;
  /** Runs it, wants exit code 0, and gives what it wrote as JSON. */
  json<Result>(args: readonly string[]): Promise<Result>;
}

/** What is secret in every config made here; it must never be in an output. */
export const PASSWORD_VARIABLE = "PIPELINE_PASSWORD";

export async function makePipeline(options: PipelineOptions): Promise<TestPipeline> {
  const folder = await makeTestFolder();
  const config = join(folder.path, "pg-flo.yaml");
  await writeFile(config, configText(options));
  const env = {
    [PASSWORD_VARIABLE]: options.source.password,
    [`${PASSWORD_VARIABLE}_2`]: options.metadata?.password,
  };
  const run = (args: readonly string[], more: CliOptions = {}) =>
    runCli([...args, "--config", config], { ...more, env: { ...env, ...more.env } });
  return {
    group: options.group ?? "app",
    folder: folder.path,
    dataFolder: join(folder.path, options.storage ?? "data"),
    config,
    run,
    spawn: (args) => spawnCli([...args, "--config", config], { env }),
    json: async <Result>(args: readonly string[]) => {
      const result = await run([...args, "--json"]);
      if (result.code !== 0) throw new Error(`exit code ${result.code}: ${result.stderr}`);
      return JSON.parse(result.stdout) as Result;
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** Replicates until everything that is there now is durable, then kills the worker. */
export async function replicate(pipeline: TestPipeline, metadata: TestDatabase, source = metadata): Promise<void> {
  await using worker = pipeline.spawn(["replicate"]);
  const { rows } = await source.client.query("select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn");
  for (let tries = 0; tries < 600; tries++) {
    if (!worker.running) throw new Error(`the worker ended: ${worker.stderr}`);
    const found = await metadata.client
      .query<{ waiting: number }>(
        `select (select count(*)::int from _pg_flo.tables where group_name = $2 and state in ('pending', 'copying'))
           + (select count(*)::int from _pg_flo.streams where group_name = $2 and coalesce(position, 0) < $1)
           + (select count(*) = 0 from _pg_flo.streams where group_name = $2)::int as waiting`,
        [rows[0].lsn, pipeline.group],
      )
      .catch((error) => (error.code === "42P01" ? null : Promise.reject(error))); // not there yet
    if (found?.rows[0]?.waiting === 0) return;
    await sleep(100);
  }
  throw new Error(`not caught up: ${worker.stderr}`);
}

function configText(options: PipelineOptions): string {
  const publication = options.publication === undefined ? "" : `, publication: ${JSON.stringify(options.publication)}`;
  return [
    `group: ${options.group ?? "app"}`,
    `source: { ${connectionText(options.source, PASSWORD_VARIABLE)}${publication} }`,
    ...(options.metadata ? [`metadata: { ${connectionText(options.metadata, `${PASSWORD_VARIABLE}_2`)} }`] : []),
    `storage: ${JSON.stringify(options.storage ?? "data")}`,
    `schemas: ${options.schemas ?? '{ public: "*" }'}`,
    "stream: { flush_interval: 200ms }",
  ].join("\n");
}

function connectionText({ host, port, user, database }: ConnectionConfig, variable: string): string {
  const text = Object.entries({ host, user, database }).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  return [...text, `port: ${port}`, `password: "\${${variable}}"`, "connect_timeout: 5"].join(", ");
}
