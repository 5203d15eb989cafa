// Configs as text, for tests: a minimal one, one key of it changed, and what is said about a wrong one.
import assert from "node:assert/strict";
import { PgFloError } from "../../src/base/errors.ts";
import { parseConfig } from "../../src/config/load.ts";

export const MINIMAL = `
group: app
source: { url: "postgres://repl@db.example.com/app" }
storage: ./data
schemas: { public: "*" }
`;

export function parse(text: string, env: Record<string, string> = {}) {
  return parseConfig(text, { env, baseDir: "/etc/flo", file: "pg-flo.yaml" });
}

export function mistakesOf(text: string, env: Record<string, string> = {}): string {
  try {
    parse(text, env);
  } catch (error) {
    assert.ok(error instanceof PgFloError, String(error));
    assert.equal(error.code, "CONFIG_INVALID");
    return error.message;
  }
  assert.fail("the config was taken");
}

/** The minimal config with one key's line replaced or added. */
export function withKey(key: string, value: string): string {
  const others = MINIMAL.split("\n").filter((line) => !line.startsWith(`${key}:`));
  return `${others.join("\n")}\n${key}: ${value}\n`;
}
