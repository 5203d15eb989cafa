// A server's TLS settings for tests: certificate and key where the server's user may read them.
import { chmod, chown, copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PostgresSettings } from "../../src/demo/embedded-postgres.ts";
import { binariesOf } from "./postgres.ts";

const folderOfKeys = join(import.meta.dirname, "tls");

/** The file options of a connection. `client` is signed for the role `tls_client`. */
export const tlsFiles = {
  ca: join(folderOfKeys, "ca.pem"),
  clientCert: join(folderOfKeys, "client.pem"),
  clientKey: join(folderOfKeys, "client.key"),
};

/** Settings that turn TLS on; `hba` replaces pg_hba.conf. Dispose after the server. */
export async function tlsSettings(hba: string): Promise<AsyncDisposable & { readonly settings: PostgresSettings }> {
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-tls-"));
  const { user } = await binariesOf(18);
  const files = { ssl_ca_file: "ca.pem", ssl_cert_file: "server.pem", ssl_key_file: "server.key" };
  for (const name of Object.values(files)) await copyFile(join(folderOfKeys, name), join(folder, name));
  await writeFile(join(folder, "hba.conf"), hba);
  for (const name of [...Object.values(files), "hba.conf", "."]) {
    await chmod(join(folder, name), name === "." ? 0o700 : 0o600);
    if (user) await chown(join(folder, name), user.uid, user.gid);
  }
  const paths = Object.fromEntries(Object.entries(files).map(([setting, name]) => [setting, join(folder, name)]));
  return {
    settings: { ssl: "on", ...paths, hba_file: join(folder, "hba.conf") },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
