// Rules that a single key's check cannot hold. They read the raw values, so that they speak up whatever else is wrong.
import { homedir } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import type { StorageConfig } from "../base/storage-config.ts";
import { isMapping, type Mistake, showValue } from "./mistakes.ts";
import { isIdentifier } from "./options.ts";
import { parseSizeBytes } from "./quantity.ts";
import { parseS3Location } from "./s3-location.ts";

/** Mistakes of `schemas`: names, the `*`, and lists of columns that exclude each other. */
export function schemaRules(schemas: unknown): Mistake[] {
  if (!isMapping(schemas)) return [];
  const mistakes: Mistake[] = [];
  if (Object.keys(schemas).length === 0) {
    mistakes.push({ path: ["schemas"], text: 'names no schema, allowed is at least one, such as public: "*"' });
  }
  for (const [schema, tables] of Object.entries(schemas)) {
    const path = ["schemas", schema];
    if (!isIdentifier(schema)) mistakes.push({ path, text: "is not a name, allowed are 1 to 63 bytes" });
    if (schema.startsWith("pg_") || schema === "information_schema" || schema === METADATA_SCHEMA) {
      mistakes.push({ path, text: "belongs to the server or to pg-flo, allowed are your own schemas" });
    }
    if (isMapping(tables)) mistakes.push(...tableRules(schema, tables));
  }
  return mistakes;
}

/** A warning comes before what it warns of. */
export function walBudgetRules(budget: unknown): Mistake[] {
  if (!isMapping(budget)) return [];
  const size = (value: unknown) => (typeof value === "string" ? parseSizeBytes(value) : undefined);
  const [warning, critical] = [size(budget.warning), size(budget.critical)];
  if (warning === undefined || critical === undefined || warning <= critical) return [];
  const [given, most] = [String(budget.warning), String(budget.critical)];
  const text = `is ${showValue(given)}, allowed is at most wal_budget.critical (${showValue(most)})`;
  return [{ path: ["wal_budget", "warning"], text }];
}

function tableRules(schema: string, tables: Readonly<Record<string, unknown>>): Mistake[] {
  const mistakes: Mistake[] = [];
  if (Object.keys(tables).length === 0) {
    mistakes.push({ path: ["schemas", schema], text: 'names no table, allowed is at least one, or "*" for all' });
  }
  for (const [table, options] of Object.entries(tables)) {
    const path = ["schemas", schema, table];
    if (table === "*") {
      mistakes.push({
        path,
        text: `is not a table; every table is written ${schema}: "*", single ones by their names`,
      });
    } else if (!isIdentifier(table)) {
      mistakes.push({ path, text: "is not a name, allowed are 1 to 63 bytes" });
    }
    if (isMapping(options) && Object.hasOwn(options, "include_columns") && Object.hasOwn(options, "exclude_columns")) {
      mistakes.push({ path, text: "has include_columns and exclude_columns, allowed is one of them" });
    }
  }
  return mistakes;
}

export type ResolvedStorage = { readonly storage: StorageConfig } | { readonly mistake: Mistake };

/** The storage that a folder, relative to `baseDir`, a file:// or an s3:// URL names. */
export function resolveStorage(text: string, baseDir: string): ResolvedStorage {
  const mistake = (what: string) => ({ mistake: { path: ["storage"], text: `is ${showValue(text)}, ${what}` } });
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(text)?.[1]?.toLowerCase();
  if (scheme === "file") {
    try {
      return { storage: { kind: "local", root: resolve(fileURLToPath(text)) } };
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof URIError)) throw error;
      return mistake("allowed is file:///absolute/folder, without a host and percent-encoded");
    }
  }
  if (scheme === "s3") {
    const location = parseS3Location(text);
    return "mistake" in location ? mistake(location.mistake) : location;
  }
  if (scheme !== undefined && text.includes("://")) {
    return mistake(`${scheme}:// is not possible, allowed is a folder, file:///folder or s3://bucket/prefix`);
  }
  if (/^~(\/|$)/.test(text)) {
    return mistake(
      `~ is not replaced here, allowed is the whole path, such as ${resolve(homedir(), `.${text.slice(1)}`)}`,
    );
  }
  return { storage: { kind: "local", root: resolve(baseDir, text) } };
}
