// How to reach one Postgres. Lives in base because config makes it and postgres uses it.

/** libpq's sslmode values: https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION */
export type SslMode = "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";

export const RECEIVE_TIMEOUT_MS = 60_000;

/** Plain data (it is sent to threads). File options are paths; `password` never appears in logs, status or errors. */
export interface ConnectionConfig {
  readonly host: string; // a name, an address, or the folder of a unix socket
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password?: string;
  readonly sslMode: SslMode;
  readonly sslRootCert?: string;
  readonly sslCert?: string;
  readonly sslKey?: string;
  readonly connectTimeoutMs: number;
  /** How long a connection may bring nothing that is due. Default RECEIVE_TIMEOUT_MS. */
  readonly receiveTimeoutMs?: number;
}
