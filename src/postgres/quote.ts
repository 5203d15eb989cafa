// Names and texts inside SQL. The one place outside of queries' parameters.
import pg from "pg";

/** `"name"`, for any name. */
export const quoteIdentifier: (name: string) => string = pg.escapeIdentifier;

/** `'text'`, or `E'text'` where it has a backslash. */
export const quoteLiteral: (text: string) => string = pg.escapeLiteral;
