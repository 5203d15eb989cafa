import assert from "node:assert/strict";
import { test } from "node:test";
import { PgFloError } from "../base/errors.ts";
import { compositeCodec } from "./composite-wire.ts";

const field = (typeOid: number, valid: RegExp) => ({
  name: "f",
  typeOid,
  codec: {
    name: "test",
    parse: (text: string): Uint8Array => {
      if (!valid.test(text)) throw new PgFloError("PROTOCOL_VIOLATION", "a test value, its text is not one");
      return new TextEncoder().encode(text);
    },
    format: () => "",
  },
});

test("a composite's text whose fields are of other types than they were is told as a changed type, not as a wrong log", () => {
  const codec = compositeCodec("pair", [field(23, /^\d+$/), field(25, /^/)]);
  assert.equal(codec.parse("(1,a)").length, 4 + 2 * 8 + 2);
  for (const text of ["(a,1)", "(1)", "(1,a,b)"]) {
    assert.throws(
      () => codec.parse(text),
      (error: unknown) =>
        error instanceof PgFloError && error.code === "TABLE_CHANGED" && !error.message.includes(text),
    );
  }
});
