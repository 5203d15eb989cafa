// One connection for small questions that come again and again: opened at the first, kept, and opened anew at the next one
// after a failure. Refuses nothing and repeats nothing: what fails is thrown to whoever asked.
import type { Client } from "pg";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { type ConnectOptions, connect, endClient } from "./connect.ts";

export class KeptConnection implements AsyncDisposable {
  readonly #config: ConnectionConfig;
  readonly #options: ConnectOptions;
  #client: Promise<Client> | null = null;
  #ended = false;

  constructor(config: ConnectionConfig, options: ConnectOptions) {
    this.#config = config;
    this.#options = options;
  }

  async use<T>(work: (client: Client) => Promise<T>): Promise<T> {
    this.#client ??= connect(this.#config, this.#options);
    const client = this.#client;
    try {
      return await work(await client);
    } catch (error) {
      if (this.#client === client) this.#client = null;
      await end(client);
      throw error;
    } finally {
      if (this.#ended) await end(client);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    if (this.#client) await end(this.#client);
  }
}

/** One that could not be opened has nothing to end. */
async function end(client: Promise<Client>): Promise<void> {
  const [opened] = await Promise.allSettled([client]);
  if (opened.status === "fulfilled") await endClient(opened.value);
}
