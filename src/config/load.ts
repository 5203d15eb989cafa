// From a YAML file to the Config that the program uses. Strict: unknown keys, missing variables and wrong values are all
// told at once, in one CONFIG_INVALID error, and nothing starts. Refuses nothing silently and guesses nothing.
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, resolve } from "node:path";
import { PgFloError } from "../base/errors.ts";
import type { Config, SchemaConfig, TableConfig, WalBudgetConfig } from "./config.ts";
import { resolveConnection } from "./connection.ts";
import { type Environment, substituteEnvironment } from "./environment.ts";
import { configError, formatPath, isMapping, type Mistake, schemaMistakes } from "./mistakes.ts";
import { configOptions, type Options } from "./options.ts";
import { resolveStorage, schemaRules, walBudgetRules } from "./rules.ts";
import { readYaml } from "./yaml-text.ts";

const FILE_SIZE_MAX_BYTES = 1_000_000;

/** Reads and checks a config file. Throws CONFIG_INVALID with every mistake, or why the file cannot be read. */
export function loadConfig(path: string, env: Environment): Config {
  return parseConfig(readConfigFile(path), { env, baseDir: dirname(resolve(path)), file: path });
}

export interface ParseConfigOptions {
  readonly env: Environment;
  /** The folder that relative paths start from: absolute. */
  readonly baseDir: string;
  /** The file's name, for messages. */
  readonly file: string;
}

/** Checks a config's text. Throws CONFIG_INVALID with every mistake, and nothing else. */
export function parseConfig(text: string, options: ParseConfigOptions): Config {
  const yaml = readYaml(text);
  if (yaml.mistakes.length > 0) throw configError(options.file, yaml.mistakes, yaml.lineOf);
  const substituted = substituteEnvironment(yaml.data, options.env);
  const checked = checkConfig(substituted.value, options.baseDir);
  // What a missing variable would have held cannot be judged.
  const unknown = new Set(substituted.mistakes.map((mistake) => formatPath(mistake.path)));
  const others = checked.mistakes.filter((mistake) => !unknown.has(formatPath(mistake.path)));
  const mistakes = [...substituted.mistakes, ...others];
  if (mistakes.length > 0 || !checked.config) throw configError(options.file, mistakes, yaml.lineOf);
  return checked.config;
}

interface CheckedConfig {
  readonly config?: Config;
  readonly mistakes: readonly Mistake[];
}

function checkConfig(value: unknown, baseDir: string): CheckedConfig {
  const raw = isMapping(value) ? value : {};
  const options = configOptions.safeParse(value);
  const source = resolveConnection(raw.source, ["source"], baseDir);
  const metadata = raw.metadata === undefined ? source : resolveConnection(raw.metadata, ["metadata"], baseDir);
  const storage = typeof raw.storage === "string" && raw.storage ? resolveStorage(raw.storage, baseDir) : undefined;
  const mistakes = [
    ...(options.success ? [] : schemaMistakes(options.error, value)),
    ...source.mistakes,
    ...(metadata === source ? [] : metadata.mistakes),
    ...(storage && "mistake" in storage ? [storage.mistake] : []),
    ...schemaRules(raw.schemas),
    ...walBudgetRules(raw.wal_budget),
  ];
  if (!options.success || !source.connection || !metadata.connection || !storage || !("storage" in storage)) {
    return { mistakes };
  }
  const { publication } = options.data.source;
  const { spill_folder: spillFolder } = options.data.stream;
  const config: Config = {
    group: options.data.group,
    source: source.connection,
    ...(publication === undefined ? {} : { publication }),
    metadata: metadata.connection,
    storage: storage.storage,
    schemas: schemaConfigs(options.data.schemas),
    copy: {
      parallel: options.data.copy.parallel,
      fileSizeBytes: options.data.copy.file_size,
      snapshotMaxAgeMs: options.data.copy.snapshot_max_age,
      maxRateBytes: options.data.copy.max_rate,
    },
    stream: {
      flushIntervalMs: options.data.stream.flush_interval,
      streamCount: options.data.stream.streams,
      fileSizeBytes: options.data.stream.file_size,
      memoryBytes: options.data.stream.memory,
      failover: options.data.stream.failover === "on",
      lostSlot: options.data.stream.lost_slot,
      spillFolder: spillFolder === undefined ? tmpdir() : resolve(baseDir, spillFolder),
    },
    walBudget: walBudget(options.data.wal_budget),
    historyMs: options.data.history,
    compact: { everyMs: options.data.compact.every, graceMs: options.data.compact.grace },
    verify: { everyMs: options.data.verify.every },
    leaseMs: options.data.lease,
    discoveryIntervalMs: options.data.discovery_interval,
    ...(options.data.http === undefined ? {} : { http: options.data.http }),
    profile: options.data.profile,
    compression: options.data.compression,
  };
  return mistakes.length > 0 ? { mistakes } : { config, mistakes };
}

function walBudget({ warning, critical, action }: Options["wal_budget"]): WalBudgetConfig {
  return {
    ...(warning === undefined ? {} : { warningBytes: warning }),
    ...(critical === undefined ? {} : { criticalBytes: critical }),
    action,
  };
}

function schemaConfigs(schemas: Options["schemas"]): Readonly<Record<string, SchemaConfig>> {
  return mapValues(schemas, (tables) =>
    tables === "*"
      ? "*"
      : mapValues(
          tables,
          (table): TableConfig => ({
            mode: table.mode,
            ...(table.include_columns ? { includeColumns: table.include_columns } : {}),
            ...(table.exclude_columns ? { excludeColumns: table.exclude_columns } : {}),
            ...(table.types ? { types: table.types } : {}),
            ...(table.on_inexact === "error" ? { onInexact: "error" } : {}),
            ...(table.bloom_filter ? { bloomFilter: table.bloom_filter } : {}),
            ...(table.history === undefined ? {} : { historyMs: table.history }),
          }),
        ),
  );
}

function mapValues<T, R>(record: Readonly<Record<string, T>>, map: (value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}

function readConfigFile(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw unreadableFile(path, error as NodeJS.ErrnoException);
  }
  if (bytes.length > FILE_SIZE_MAX_BYTES) {
    throw new PgFloError("CONFIG_INVALID", `${path}, is ${bytes.length} bytes, allowed are ${FILE_SIZE_MAX_BYTES}`, {
      fix: "name the right file with --config",
    });
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new PgFloError("CONFIG_INVALID", `${path}, is not UTF-8 text`, { fix: "save it as UTF-8", cause: error });
  }
}

function unreadableFile(path: string, error: NodeJS.ErrnoException): PgFloError {
  const known: Readonly<Record<string, readonly [what: string, fix: string]>> = {
    ENOENT: ["does not exist", "make one with pg-flo init, or name another with --config FILE"],
    EISDIR: ["is a folder", "name the file in it with --config FILE"],
    EACCES: ["may not be read by this user", "give this user the right to read it"],
  };
  const [what, fix] = known[error.code ?? ""] ?? [
    `cannot be read (${error.code ?? error.name})`,
    "name a readable file with --config FILE",
  ];
  return new PgFloError("CONFIG_INVALID", `${path}, ${what}`, { fix, cause: error });
}
