// Runs histories on a server of its own, in a process of its own (failpoints are a process's). Arguments: the server's
// version, the first seed, how many seeds, how many histories share a group. Writes a line of JSON for each seed.
import { type PostgresVersion, startPostgres, type TestServer } from "../postgres.ts";
import { runHistories } from "./history.ts";
import { UndecodableLog } from "./workers.ts";

const SEED_MS = 540_000;

const [version, first, seeds, together] = process.argv.slice(2).map(Number) as [
  PostgresVersion,
  number,
  number,
  number,
];
const settings = { max_wal_senders: 30, max_replication_slots: 30, max_connections: 200 };
await using server = await startPostgres({
  version,
  settings: version >= 16 ? { ...settings, scram_iterations: 1 } : settings,
});
await hashPasswordQuickly(server);
for (let seed = first; seed < first + seeds; seed++) {
  const began = performance.now();
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error(`not ended after ${SEED_MS} ms`)), SEED_MS).unref();
  });
  const found = await Promise.race([runHistories(server, seed, together), late]).catch((error: Error) =>
    error instanceof UndecodableLog ? { undecodable: error.message } : { error: error.stack ?? String(error) },
  );
  const ms = Math.round(performance.now() - began);
  const cpuMs = Math.round(process.cpuUsage().user / 1000);
  process.stdout.write(`${JSON.stringify({ seed, version, ms, cpuMs, ...found })}\n`);
  if (!("states" in found)) process.exit(1); // what it left running would be another history's
}

/** Hundreds of connections are made here, and each one is proved by hashing the password. */
async function hashPasswordQuickly({ version, config, query }: TestServer): Promise<void> {
  if (version >= 16) await query(`alter user postgres password '${config().password}'`);
}
