// What is wrong with a config, in sentences: the key, its value and what is allowed. All mistakes become one error.
// Values under `source` and `metadata` are not shown unless they cannot be secret: a password ends up in the wrong key easily.
import type { z } from "zod";
import { PgFloError } from "../base/errors.ts";
import { maskSecrets } from "../base/secrets.ts";
import { nearestKey } from "./nearest-key.ts";

export type KeyPath = readonly (string | number)[];

export interface Mistake {
  readonly path: KeyPath;
  /** Follows the key: `is "99", allowed is a whole number from 1 to 64`. */
  readonly text: string;
}

const SHOWN_LENGTH_MAX = 80;
const SHOWN_CONNECTION_KEYS: readonly unknown[] = [
  "port",
  "sslmode",
  "connect_timeout",
  "receive_timeout",
  "publication",
];

/** The one error that tells all mistakes in the order of their lines. `lineOf` gives a line from 1, or undefined. */
export function configError(
  file: string,
  mistakes: readonly Mistake[],
  lineOf: (path: KeyPath) => number | undefined,
): PgFloError {
  const lines = mistakes
    .map((mistake) => ({ ...mistake, line: lineOf(mistake.path) }))
    .sort((a, b) => (a.line ?? 0) - (b.line ?? 0))
    .map(({ path, line, text }) => {
      const key = path.length === 0 ? "the file" : formatPath(path);
      return `\n  ${key}${line === undefined ? "" : ` (line ${line})`} ${text}`;
    });
  const count = mistakes.length === 1 ? "1 mistake" : `${mistakes.length} mistakes`;
  return new PgFloError("CONFIG_INVALID", `${file}:${[...new Set(lines)].join("")}\n${count}`, {
    facts: { file, mistakes: mistakes.length },
  });
}

/** Mistakes of a zod check of `value`. Every schema's message says what is allowed (options.ts). */
export function schemaMistakes(error: z.ZodError, value: unknown): Mistake[] {
  return error.issues.flatMap((issue) => issueMistakes(issue, [], value));
}

function issueMistakes(issue: z.core.$ZodIssue, parent: KeyPath, value: unknown): Mistake[] {
  const path = [...parent, ...(issue.path as KeyPath)];
  const found = valueAt(value, path);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => unknownKey([...path, key], key, issue.message.split(", ")));
  }
  const tables = issue.code === "invalid_union" && isMapping(found) ? issue.errors.at(-1) : undefined;
  if (tables) return tables.flatMap((nested) => issueMistakes(nested, path, value));
  const allowed = isKeyList(issue) ? `a mapping with keys of ${issue.message}` : issue.message;
  return [{ path, text: `${describe(path, found)}, allowed is ${allowed}` }];
}

/** True for the message of options.ts's `mapping`: there it is the list of keys. */
function isKeyList(issue: z.core.$ZodIssue): boolean {
  return issue.code === "invalid_type" && issue.expected === "object";
}

function unknownKey(path: KeyPath, key: string, allowed: readonly string[]): Mistake {
  const name = /^[^:=\s]*/.exec(key)![0];
  if (name !== key) {
    // `{password:secret}` is one key to YAML: what follows the colon may be a secret.
    return { path: [...path.slice(0, -1), name], text: "is not a key: a space is missing after its colon" };
  }
  const near = nearestKey(key, allowed);
  return {
    path,
    text: `is not a key, ${near ? `did you mean ${near}? Allowed are` : "allowed are"} ${allowed.join(", ")}`,
  };
}

function describe(path: KeyPath, value: unknown): string {
  if (value === undefined) return "is missing";
  if (value === null || value === "") return "has no value";
  if (Array.isArray(value)) return "is a list";
  if (typeof value === "object") return "is a mapping";
  const connection = path[0] === "source" || path[0] === "metadata";
  if (connection && !SHOWN_CONNECTION_KEYS.includes(path.at(-1))) return "is wrong (its value is not shown)";
  return `is ${showValue(String(value))}`;
}

/** A value in quotes, short, without secrets. */
export function showValue(value: string): string {
  const masked = maskSecrets(value).replace(/^([a-z][a-z0-9+.-]*:\/\/[^?]*)\?.*$/is, "$1?…");
  return JSON.stringify(masked.length > SHOWN_LENGTH_MAX ? `${masked.slice(0, SHOWN_LENGTH_MAX)}…` : masked);
}

/** `schemas.public.orders`, with quotes around keys that are not plain words. */
export function formatPath(path: KeyPath): string {
  return path
    .map((key, index) => {
      if (typeof key === "number") return `[${key}]`;
      const shown = /^[\p{L}\p{N}_*-]+$/u.test(key) ? key : JSON.stringify(key);
      return index === 0 ? shown : `.${shown}`;
    })
    .join("");
}

export function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function valueAt(value: unknown, path: KeyPath): unknown {
  let found = value;
  for (const key of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined;
    found = (found as Record<string | number, unknown>)[key];
  }
  return found;
}
