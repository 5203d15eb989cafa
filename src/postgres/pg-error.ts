// Turns what pg, node and the server throw into PgFloError, by SQLSTATE or by node's code.
// Refuses to repeat anything that may hold a value of a row or a secret: `detail`, `where` and the messages of
// data exceptions (SQLSTATE classes 22 and 23) never get into a message.
// SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
import { type ErrorCode, type ErrorFacts, PgFloError } from "../base/errors.ts";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";

interface Verdict {
  readonly code: ErrorCode;
  readonly fix?: string;
}

/**
 * A PgFloError for anything that a connection threw. `subject` says what was being done and to what, e.g.
 * `read the catalog of db.example.com:5432/app`; it opens the message. A PgFloError is handed back as it is.
 */
export function toPgFloError(error: unknown, subject: string): PgFloError {
  if (error instanceof PgFloError) return error;
  const { code, message } = parts(error);
  const verdict = (code === undefined ? undefined : byCode(code, message)) ?? byText(message) ?? { code: "INTERNAL" };
  const facts: ErrorFacts = code === undefined ? {} : { [isSqlState(code) ? "sqlstate" : "code"]: code };
  const shown = code === undefined ? message : `${sayable(code, message)} (${code})`;
  return new PgFloError(verdict.code, `${subject}, ${shown}`, {
    facts,
    cause: error,
    ...(verdict.fix === undefined ? {} : { fix: verdict.fix }),
  });
}

/** The SQLSTATE of a server error, else undefined. */
export function sqlState(error: unknown): string | undefined {
  const { code } = parts(error);
  return code !== undefined && isSqlState(code) ? code : undefined;
}

const byNodeCode: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: "CONNECTION_FAILED",
  ENOTFOUND: "CONNECTION_FAILED",
  EAI_AGAIN: "CONNECTION_FAILED",
  ETIMEDOUT: "CONNECTION_FAILED",
  EHOSTUNREACH: "CONNECTION_FAILED",
  EHOSTDOWN: "CONNECTION_FAILED",
  ENETUNREACH: "CONNECTION_FAILED",
  EADDRNOTAVAIL: "CONNECTION_FAILED",
  ENOENT: "CONNECTION_FAILED", // a unix socket that is not there
  EACCES: "CONNECTION_FAILED",
  ECONNRESET: "CONNECTION_LOST",
  ECONNABORTED: "CONNECTION_LOST",
  EPIPE: "CONNECTION_LOST",
  ERR_STREAM_DESTROYED: "CONNECTION_LOST",
  ERR_STREAM_WRITE_AFTER_END: "CONNECTION_LOST",
  ERR_STREAM_PREMATURE_CLOSE: "CONNECTION_LOST",
};

// Node's codes for a certificate or a handshake that does not do.
// https://nodejs.org/api/tls.html#x509-certificate-error-codes
const tlsCode =
  /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|EPROTO$|CERT_|CRL_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|ERROR_IN_CERT)/;

const bySqlState: Readonly<Record<string, Verdict>> = {
  "28P01": { code: "AUTHENTICATION_FAILED" },
  "28000": { code: "AUTHENTICATION_FAILED" },
  "3D000": { code: "AUTHENTICATION_FAILED", fix: "create the database, or correct its name in the config" },
  "42501": { code: "PERMISSION_DENIED" },
  "53300": {
    code: "CONNECTION_FAILED",
    fix: "raise max_connections (max_wal_senders for replication) or the role's CONNECTION LIMIT, or lower copy.parallel",
  },
  "53400": { code: "NO_FREE_SLOT" },
  "55006": { code: "SLOT_IN_USE" },
  "57P01": { code: "CONNECTION_LOST" },
  "57P02": { code: "CONNECTION_LOST" },
  "57P03": { code: "CONNECTION_FAILED", fix: "nothing, the server starts or stops; pg-flo tries again" },
  "57P05": { code: "CONNECTION_LOST" },
  "25P03": { code: "CONNECTION_LOST" },
  "55P03": { code: "SERVER_BUSY" },
  "57014": { code: "SERVER_BUSY" },
  "40P01": { code: "SERVER_BUSY" },
  "40001": { code: "SERVER_BUSY" },
  "42P01": { code: "TABLE_CHANGED" },
  "42703": { code: "TABLE_CHANGED" },
};

function byCode(code: string, message: string): Verdict | undefined {
  if (!isSqlState(code)) {
    const nodeVerdict = byNodeCode[code] ?? (tlsCode.test(code) ? ("TLS_FAILED" as const) : undefined);
    return nodeVerdict && { code: nodeVerdict };
  }
  const special = byCodeAndText(code, message);
  if (special) return special;
  const known = bySqlState[code];
  if (known) return known;
  if (code.startsWith("08")) return { code: "CONNECTION_LOST" };
  if (code.startsWith("53")) return { code: "SERVER_BUSY" };
  // The server's own: its files, or what it takes for impossible (decoding meets such races with DDL that is rolled back).
  if (code.startsWith("XX") || code.startsWith("58")) return { code: "SERVER_FAILED" };
  return undefined;
}

/** States that mean several things. The server may speak another language: then the general meaning of the state stays. */
function byCodeAndText(code: string, message: string): Verdict | undefined {
  if (code === "58P01" && /wal segment/i.test(message)) return { code: "SLOT_LOST" };
  if (code === "XX000" && /could not map filen/.test(message)) {
    return {
      code: "SERVER_FAILED",
      fix: "nothing, pg-flo tries again; if it stays, PostgreSQL cannot decode this slot: stop the workers, drop it with pg_drop_replication_slot, and run pg-flo replicate --resync",
    };
  }
  if (code === "25006" || (code === "55000" && /recovery is in progress/i.test(message))) {
    return { code: "CONNECTION_FAILED", fix: "promote the standby, or point pg-flo at the primary; it tries again" };
  }
  if (code === "55000" || code === "42704" || code === "22023") {
    if (/snapshot/i.test(message)) return { code: "SNAPSHOT_LOST" };
    if (/wal_level/i.test(message)) return { code: "PREFLIGHT_FAILED", fix: "set wal_level = logical and restart" };
    if (/replication slot/i.test(message)) return { code: "SLOT_LOST" };
    if (/publication/i.test(message)) return { code: "PREFLIGHT_FAILED" };
  }
  if (code === "42883" && /no binary (output|send) function/i.test(message)) return { code: "NEEDS_TEXT" };
  if ((code === "42P01" || code === "42703" || code === "3F000") && message.includes(METADATA_SCHEMA)) {
    return { code: "METADATA_CORRUPT" };
  }
  return undefined;
}

/** pg itself throws plain errors without a code. */
function byText(message: string): Verdict | undefined {
  if (/does not support SSL connections|establishing an SSL connection/.test(message)) {
    return { code: "TLS_FAILED", fix: "turn ssl on at the server, or set sslmode to prefer or disable" };
  }
  if (/timeout expired|connection timeout|timeout exceeded when trying to connect/i.test(message)) {
    return { code: "CONNECTION_FAILED" };
  }
  if (/Connection terminated|Query read timeout|not queryable|Client was closed|Connection ended/i.test(message)) {
    return { code: "CONNECTION_LOST" };
  }
  if (/SASL|SCRAM|password must be/i.test(message)) return { code: "AUTHENTICATION_FAILED" };
  return undefined;
}

/** Messages of data exceptions and of violated constraints quote values: only their state is told. */
function sayable(code: string, message: string): string {
  return /^2[23]/.test(code) && isSqlState(code) && !/snapshot|option|parameter/i.test(message)
    ? "the server refused a value"
    : message;
}

function isSqlState(code: string): boolean {
  // Five characters, at least one digit: node's codes (EPIPE) have none.
  return /^(?=.*\d)[0-9A-Z]{5}$/.test(code);
}

function parts(error: unknown): { code: string | undefined; message: string } {
  if (!(error instanceof Error)) return { code: undefined, message: String(error) };
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  // Both addresses of a name refused: an AggregateError without a message of its own.
  const inner = error instanceof AggregateError ? error.errors.map((each) => parts(each).message).join("; ") : "";
  return { code, message: error.message || inner || error.name };
}
