// What of a changed config a running worker can take over. Pure: the rest waits for its next start, and is named.
import { isDeepStrictEqual } from "node:util";
import type { Config } from "./config.ts";

/** What is read again and again while a worker runs; the names are those of docs/config.md. */
const atOnce = {
  schemas: ({ schemas }: Config) => schemas,
  copy: ({ copy }: Config) => copy,
  wal_budget: ({ walBudget }: Config) => walBudget,
  discovery_interval: ({ discoveryIntervalMs }: Config) => discoveryIntervalMs,
} as const;

export interface ConfigChanges {
  /** What runs with from now on. */
  readonly config: Config;
  readonly taken: readonly string[];
  /** Changed, and of no effect before the next start. */
  readonly waiting: readonly string[];
}

export function configChanges(running: Config, wanted: Config): ConfigChanges {
  const { schemas, copy, walBudget, discoveryIntervalMs } = wanted;
  const config: Config = { ...running, schemas, copy, walBudget, discoveryIntervalMs };
  const taken = Object.entries(atOnce).flatMap(([name, of]) =>
    isDeepStrictEqual(of(running), of(wanted)) ? [] : [name],
  );
  const names: Readonly<Partial<Record<keyof Config, string>>> = {
    leaseMs: "lease",
    publication: "source.publication",
  };
  const keys = [...new Set([...Object.keys(config), ...Object.keys(wanted)])] as (keyof Config)[];
  const waiting = keys.filter((key) => !isDeepStrictEqual(config[key], wanted[key])).map((key) => names[key] ?? key);
  return { config, taken, waiting };
}
