import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { builtinOids } from "./registry.ts";
import { documentedTypes, typesPage } from "./types-page.ts";

test("docs/types.md says what the code does (npm run docs:types writes it)", () => {
  assert.equal(readFileSync(new URL("../../docs/types.md", import.meta.url), "utf8"), typesPage());
});

test("every built-in type with a decoder is in docs/types.md", () => {
  const documented = new Set(documentedTypes.flatMap(({ oids }) => oids));
  assert.deepEqual(
    builtinOids.filter((oid) => !documented.has(oid)),
    [],
  );
});
