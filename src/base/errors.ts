// The one error class and the one policy table. Every error a user can meet has a code here.
// What an error does to the worker is decided by its code alone, never where it is caught.

/**
 * What the worker does about an error: try again with back-off, stop that one table, leave the stream to its new owner,
 * or stop the worker and ask a person.
 */
export type ErrorAction = "retry" | "stop-table" | "stand-by" | "stop-worker";

export interface ErrorPolicy {
  readonly action: ErrorAction;
  /** What the operator does about it. `docs/ERRORS.md` is checked against this text. */
  readonly fix: string;
}

/** Codes and what they mean to the worker. Unknown means ask a person. */
export const errorPolicies = {
  CONFIG_INVALID: { action: "stop-worker", fix: "correct the keys that are named and run the command again" },
  CONNECTION_FAILED: { action: "retry", fix: "check host, port, firewall and that the server runs" },
  CONNECTION_LOST: { action: "retry", fix: "nothing, pg-flo connects again; if it stays, look at the server's log" },
  AUTHENTICATION_FAILED: { action: "stop-worker", fix: "check user, password, database name and pg_hba.conf" },
  TLS_FAILED: {
    action: "stop-worker",
    fix: "check sslmode, sslrootcert, sslcert and sslkey against the server's certificate",
  },
  PERMISSION_DENIED: { action: "stop-worker", fix: "run pg-flo check: it prints the grants that are missing" },
  PREFLIGHT_FAILED: { action: "stop-worker", fix: "mend the findings that pg-flo check lists" },
  SERVER_BUSY: {
    action: "retry",
    fix: "nothing, pg-flo tries again; if it stays, look for long locks and full disks at the server",
  },
  SERVER_FAILED: {
    action: "retry",
    fix: "nothing, pg-flo tries again; if it stays, the server's own log says more: a damaged file, a disk, a defect of its version",
  },
  SLOT_LOST: {
    action: "stop-worker",
    fix: "raise max_slot_wal_keep_size, then run pg-flo replicate --resync",
  },
  SOURCE_REWOUND: {
    action: "stop-worker",
    fix: "point pg-flo to the server that has these transactions, or run pg-flo drop --yes and pg-flo replicate to copy again",
  },
  SLOT_IN_USE: { action: "retry", fix: "another connection reads the slot; stop it, or wait until its worker is gone" },
  NO_FREE_SLOT: { action: "stop-worker", fix: "raise max_replication_slots or drop a slot that is no longer used" },
  STREAM_TAKEN: {
    action: "stand-by",
    fix: "nothing, another worker of this group goes on with the stream, and this one stands by",
  },
  LEASE_LOST: {
    action: "retry",
    fix: "nothing, the worker registers again; if it stays, look at the metadata database",
  },
  SNAPSHOT_LOST: { action: "retry", fix: "nothing, the remaining ranges are read under a new snapshot" },
  TABLE_CHANGED: { action: "stop-table", fix: "the table's definition changed; see the message for what to do" },
  TABLE_FAILED: { action: "stop-table", fix: "mend the cause that the message names; the other tables go on" },
  NEEDS_TEXT: { action: "retry", fix: "nothing, the stream is opened again with text values" },
  PROTOCOL_VIOLATION: {
    action: "stop-worker",
    fix: "report this with the offset; nothing was acknowledged to the server",
  },
  STORAGE_FULL: { action: "retry", fix: "free space at the storage; pg-flo waits and goes on by itself" },
  STORAGE_FAILED: { action: "retry", fix: "check that the storage can be reached and written" },
  STORAGE_DENIED: { action: "stop-worker", fix: "give this user the right to write to the storage's folder or bucket" },
  STORAGE_INVALID: { action: "stop-worker", fix: "correct bucket, region and endpoint in the key storage" },
  METADATA_VERSION: { action: "stop-worker", fix: "use the pg-flo version that wrote the metadata, or a newer one" },
  METADATA_CORRUPT: {
    action: "stop-worker",
    fix: "restore schema _pg_flo from a backup, or run pg-flo drop --yes and start again",
  },
  GROUP_MISSING: { action: "stop-worker", fix: "run pg-flo init or pg-flo replicate first" },
  MEMORY_EXCEEDED: { action: "stop-worker", fix: "raise stream.memory; nothing was acknowledged to the server" },
  HTTP_FAILED: { action: "stop-worker", fix: "set another address or port in the key http" },
  RELOAD_REFUSED: {
    action: "stop-worker",
    fix: "correct what the workers name and run pg-flo reload again; they go on with the config that they had",
  },
  QUERY_FAILED: { action: "stop-worker", fix: "correct the query and run it again" },
  CANCELLED: { action: "stop-worker", fix: "nothing was changed; answer yes, or give --yes" },
  UNEQUAL: { action: "stop-worker", fix: "the mirror differs from the source; keep the files and report it" },
  EMBEDDED_POSTGRES_FAILED: {
    action: "stop-worker",
    fix: "mend what the message names, or use a PostgreSQL server of your own",
  },
  MIRROR_BEHIND: { action: "retry", fix: "start pg-flo replicate, or wait until it has caught up" },
  INTERNAL: { action: "stop-worker", fix: "this is a defect of pg-flo; report it with the log" },
} as const satisfies Record<string, ErrorPolicy>;

export type ErrorCode = keyof typeof errorPolicies;

export type ErrorFacts = Readonly<Record<string, string | number | bigint | boolean | null>>;

export interface PgFloErrorOptions {
  /** Overrides the policy's general fix with the exact one for this case. */
  readonly fix?: string;
  readonly facts?: ErrorFacts;
  readonly cause?: unknown;
}

/** Message form: `[CODE] subject, what, fact; fix`. Messages and facts never hold secrets or row values. */
export class PgFloError extends Error {
  readonly code: ErrorCode;
  /** The message without code and fix. */
  readonly description: string;
  readonly fix: string;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, description: string, options: PgFloErrorOptions = {}) {
    const fix = options.fix ?? errorPolicies[code].fix;
    super(`[${code}] ${description}; ${fix}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "PgFloError";
    this.code = code;
    this.description = description;
    this.fix = fix;
    this.facts = options.facts ?? {};
  }

  get action(): ErrorAction {
    return errorPolicies[this.code].action;
  }
}
