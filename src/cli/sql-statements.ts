// Cuts a text into SQL statements at the semicolons that are not inside of strings, names or comments. Pure.
// Refuses to judge SQL: what is wrong in a statement is for DuckDB to tell.

export interface Statements {
  /** Those that a semicolon ended, without it and without blank ones. */
  readonly complete: readonly string[];
  /** What stands after the last semicolon; empty when nothing but blanks and comments does. */
  readonly rest: string;
}

export function splitStatements(text: string): Statements {
  const complete: string[] = [];
  let start = 0;
  let hasCode = false;
  let isOpen = false; // a comment that has no end yet
  for (let at = 0; at < text.length; ) {
    const end = tokenEnd(text, at);
    const first = text[at]!;
    if (first === ";" && end === at + 1) {
      if (hasCode) complete.push(text.slice(start, at).trim());
      start = end;
      hasCode = false;
    } else if (text.startsWith("/*", at)) isOpen = end === text.length && !text.endsWith("*/");
    else if (!/\s/.test(first) && !text.startsWith("--", at)) hasCode = true;
    at = end;
  }
  return { complete, rest: hasCode || isOpen ? text.slice(start).trim() : "" };
}

/** Where what begins at `at` ends: a string, a quoted name, a comment, or one character. */
function tokenEnd(text: string, at: number): number {
  const two = text.slice(at, at + 2);
  if (two === "--") return after(text, text.indexOf("\n", at), 1);
  if (two === "/*") return after(text, text.indexOf("*/", at + 2), 2);
  if (text[at] === "'" || text[at] === '"') return after(text, text.indexOf(text[at]!, at + 1), 1); // '' is two strings
  const dollar = at > 0 && /[\w$]/.test(text[at - 1]!) ? null : /^\$(?:[A-Za-z_]\w*)?\$/.exec(text.slice(at, at + 70));
  if (dollar) return after(text, text.indexOf(dollar[0], at + dollar[0].length), dollar[0].length);
  return at + 1;
}

function after(text: string, found: number, length: number): number {
  return found < 0 ? text.length : found + length;
}
