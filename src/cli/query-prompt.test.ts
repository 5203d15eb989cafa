import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { runPrompt } from "./query-prompt.ts";

/** Types the text, and gives what was run and shown. */
async function typed(text: string) {
  const input = new PassThrough();
  const output = new PassThrough();
  const done: string[] = [];
  input.end(text);
  await runPrompt({
    input,
    output,
    terminal: false,
    run: async (sql) => {
      if (sql.includes("wrong")) throw new Error(sql);
      done.push(sql);
    },
    list: async () => void done.push("list"),
    onError: async (error) => void done.push(`error ${(error as Error).message}`),
  });
  return { done, shown: String(output.read() ?? "") };
}

test("statements run when their semicolon comes, also over several lines and several in one", async () => {
  const { done, shown } = await typed("select 1;\nselect\n2; select 3;\nselect 4");
  assert.deepEqual(done, ["select 1", "select\n2", "select 3"]);
  assert.match(shown, /^pg-flo> /);
});

test("\\d lists and describes, \\q quits, anything else shows help, and an error does not end the prompt", async () => {
  const { done, shown } = await typed('wrong;\n\\d\n\\d "a b";\n\\x\n\\q\nselect 1;\n');
  assert.deepEqual(done, ["error wrong", "list", 'DESCRIBE "a b"']);
  assert.match(shown, /\\q {10}quit/);
});
