import assert from "node:assert/strict";
import { test } from "node:test";
import { splitStatements } from "./sql-statements.ts";

test("statements end at semicolons that are not inside of strings, names, comments and dollar quotes", () => {
  const cases: [string, string[], string][] = [
    ["select 1; select 2", ["select 1"], "select 2"],
    ["select ';''\";' ; select \";'\" ;", ["select ';''\";'", 'select ";\'"'], ""],
    ["select 1 -- a;b\n, 2; -- c", ["select 1 -- a;b\n, 2"], ""],
    ["/* ; */ select /*;*/ 1;", ["/* ; */ select /*;*/ 1"], ""],
    ["select $$;$$, $a$ ; $$ $a$; x", ["select $$;$$, $a$ ; $$ $a$"], "x"],
    ["select a$b$c; 1", ["select a$b$c"], "1"],
    [" ;; \n ; -- nothing", [], ""],
    ["select 'open ; ", [], "select 'open ;"],
    ["/* open ; ", [], "/* open ;"],
    ["-- /* no comment\n", [], ""],
    ["", [], ""],
  ];
  for (const [text, complete, rest] of cases) assert.deepEqual(splitStatements(text), { complete, rest }, text);
});
