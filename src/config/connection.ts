// One connection of the config: a URL, keys of their own, or both for different settings.
// libpq's own environment (PGHOST …) and files (~/.pgpass, ~/.postgresql) are not read: the config says it all.
import { resolve } from "node:path";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { parseConnectionUrl } from "./connection-url.ts";
import { isMapping, type KeyPath, type Mistake, schemaMistakes } from "./mistakes.ts";
import { type ConnectionSettings, connectionKeys, connectionOptions } from "./options.ts";

/** The value of sslrootcert that stands for the roots that come with Node.js. */
const SYSTEM_ROOTS = "system";

export interface ResolvedConnection {
  /** There when nothing is wrong with it. */
  readonly connection?: ConnectionConfig;
  /** Mistakes that are not in a single key: those options.ts finds. */
  readonly mistakes: readonly Mistake[];
}

/** Makes a connection of the keys under `path`; its file paths are made absolute from `baseDir`. */
export function resolveConnection(value: unknown, path: KeyPath, baseDir: string): ResolvedConnection {
  if (!isMapping(value)) return { mistakes: [] };
  const keys = Object.fromEntries(
    connectionKeys.flatMap((key) => (typeof value[key] === "string" ? [[key, value[key]]] : [])),
  );
  const { url, ...ownKeys } = keys as Record<string, string>;
  const fromUrl = url ? parseConnectionUrl(url) : { settings: {}, problems: [] };
  const urlPath = [...path, "url"];
  const mistakes: Mistake[] = fromUrl.problems.map((problem) => ({ path: urlPath, text: problem }));
  const urlChecked = connectionOptions.safeParse(fromUrl.settings);
  for (const mistake of urlChecked.success ? [] : schemaMistakes(urlChecked.error, {})) {
    const allowed = mistake.text.replace(/^.*?, allowed is /, "");
    mistakes.push({ path: urlPath, text: `has a wrong ${mistake.path.join(".")}, allowed is ${allowed}` });
  }
  for (const key of Object.keys(ownKeys).filter((own) => Object.hasOwn(fromUrl.settings, own))) {
    mistakes.push({ path: [...path, key], text: "is given here and in the url, allowed is one of them" });
  }
  const given: Record<string, string> = { ...fromUrl.settings, ...ownKeys };
  // https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT
  if (given.sslrootcert === SYSTEM_ROOTS) given.sslmode ??= "verify-full";
  const settings = connectionOptions.safeParse(given);
  if (mistakes.length > 0 || !settings.success) return { mistakes };
  mistakes.push(...missingSettings(settings.data, path));
  return mistakes.length > 0 ? { mistakes } : { connection: connectionConfig(settings.data, baseDir), mistakes };
}

function missingSettings(settings: ConnectionSettings, path: KeyPath): Mistake[] {
  const mistakes: Mistake[] = [];
  for (const key of ["database", "user"] as const) {
    const what = "is missing, allowed is its name here or in the url";
    if (!settings[key]) mistakes.push({ path: [...path, key], text: what });
  }
  if (settings.sslrootcert === SYSTEM_ROOTS && settings.sslmode !== "verify-full") {
    const text = `is weaker than sslrootcert=${SYSTEM_ROOTS} allows, allowed is verify-full`;
    mistakes.push({ path: [...path, "sslmode"], text });
  }
  if (settings.sslcert && !settings.sslkey) mistakes.push({ path: [...path, "sslcert"], text: "needs sslkey too" });
  if (settings.sslkey && !settings.sslcert) mistakes.push({ path: [...path, "sslkey"], text: "needs sslcert too" });
  return mistakes;
}

function connectionConfig(settings: ConnectionSettings, baseDir: string): ConnectionConfig {
  const file = (name: string) => resolve(baseDir, name);
  return {
    host: settings.host ?? "localhost",
    port: settings.port!,
    database: settings.database!,
    user: settings.user!,
    ...(settings.password ? { password: settings.password } : {}),
    sslMode: settings.sslmode!,
    ...(settings.sslrootcert ? { sslRootCert: rootsFile(settings.sslrootcert, file) } : {}),
    ...(settings.sslcert ? { sslCert: file(settings.sslcert) } : {}),
    ...(settings.sslkey ? { sslKey: file(settings.sslkey) } : {}),
    connectTimeoutMs: settings.connect_timeout! * 1000,
    receiveTimeoutMs: settings.receive_timeout! * 1000,
  };
}

function rootsFile(name: string, file: (name: string) => string): string {
  return name === SYSTEM_ROOTS ? name : file(name);
}
