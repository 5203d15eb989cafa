import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { confirm } from "./confirmation.ts";

test("only y and yes confirm; other answers, none, and the end of the input do not", async () => {
  for (const [answer, confirmed] of [
    ...[["y\n", true] as const, ["yes\n", true] as const, [" YES \r\n", true] as const],
    ...[["n\n", false] as const, ["\n", false] as const, ["", false] as const, ["yes please\n", false] as const],
  ]) {
    const [input, output] = [new PassThrough(), new PassThrough()];
    input.end(answer);
    assert.equal(await confirm(input, output, "Really? "), confirmed, JSON.stringify(answer));
    assert.equal(String(output.read()), "Really? ");
  }
});
