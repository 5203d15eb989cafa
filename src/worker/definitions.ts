// What a worker mirrors now: the config, and the source's definitions as they were read for it. One object for a worker's
// life; what is in it is exchanged as a whole, while streams and copies go on.
import type { Config } from "../config/config.ts";
import type { Requests } from "../metadata/requests.ts";
import type { Table, TableKey } from "../metadata/tables.ts";
import type { PgType } from "../postgres/catalog.ts";
import { binaryPossible, type Discovery } from "./discovery.ts";

export interface Prepared {
  readonly discovery: Discovery;
  /** As they are registered, and published. */
  readonly tables: readonly Table[];
  /** Of the catalog, from just before it was read. */
  readonly fingerprint: string;
  /** Those that it was read for. */
  readonly requests: Requests;
  /** False: tables changed while it was read, it must be read again. */
  readonly complete: boolean;
}

export class Definitions {
  #config: Config;
  #prepared: Prepared;
  #generations: ReadonlyMap<number, number>;
  /** The newest reload that was answered; null before the first look. */
  answeredReload: bigint | null = null;

  constructor(config: Config, prepared: Prepared) {
    this.#config = config;
    this.#prepared = prepared;
    this.#generations = generationsOf(prepared);
  }

  get config(): Config {
    return this.#config;
  }

  get types(): ReadonlyMap<number, PgType> {
    return this.#prepared.discovery.types;
  }

  get prepared(): Prepared {
    return this.#prepared;
  }

  /** Whether slots may send values in binary. */
  get binary(): boolean {
    return binaryPossible(this.#prepared.discovery);
  }

  /** Whether its definition was read since it began anew. */
  isRegistered({ tableId, generation }: TableKey): boolean {
    return this.#generations.get(tableId) === generation;
  }

  replace(config: Config, prepared: Prepared): void {
    this.#config = config;
    this.#prepared = prepared;
    this.#generations = generationsOf(prepared);
  }
}

function generationsOf({ tables }: Prepared): ReadonlyMap<number, number> {
  return new Map(tables.map(({ tableId, generation }) => [tableId, generation]));
}
