// What a look at the source found, for `check`, `status` and events.

export interface Finding {
  /** error: replication would fail or be wrong. warning: something will not be seen. info: good to know. */
  readonly severity: "error" | "warning" | "info";
  /** A stable kebab-case name. */
  readonly code: string;
  /** What it is about: a table, a role, a setting. */
  readonly subject: string;
  readonly message: string;
  /** The exact SQL, setting or config change. Empty when there is nothing to do. */
  readonly fix: string;
}
