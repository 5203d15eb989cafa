import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PgFloError } from "../base/errors.ts";
import { parseLsn } from "../base/lsn.ts";
import {
  parseDataRow,
  parseErrorFields,
  partialMessageBytes,
  queryMessage,
  readMessages,
  standbyStatusMessage,
} from "./wire.ts";

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

function message(type: string, body: Uint8Array | string): Buffer {
  const content = Buffer.from(body as string);
  const header = Buffer.alloc(5);
  header.write(type, 0, "latin1");
  header.writeInt32BE(content.length + 4, 1);
  return Buffer.concat([header, content]);
}

function isViolation(error: unknown): boolean {
  return error instanceof PgFloError && error.code === "PROTOCOL_VIOLATION" && typeof error.facts.offset === "number";
}

test("messages are found whole at every split of the bytes", () => {
  const bytes = Buffer.concat([
    message("d", "first"),
    message("c", ""),
    message("d", "x".repeat(40)),
    message("Z", "I"),
  ]);
  const view = viewOf(bytes);
  for (let split = 0; split <= bytes.length; split++) {
    const seen: string[] = [];
    const sink = {
      message: (type: number, start: number, end: number) => {
        seen.push(String.fromCharCode(type) + bytes.toString("latin1", start, end));
      },
    };
    const position = readMessages(bytes, view, 0, split, sink);
    const wanted = partialMessageBytes(view, position, split);
    assert.ok(wanted === 0 ? split - position < 5 : position + wanted > split);
    assert.equal(readMessages(bytes, view, position, bytes.length, sink), bytes.length);
    assert.deepEqual(seen, ["dfirst", "c", `d${"x".repeat(40)}`, "ZI"]);
  }
});

test("an impossible message length is a violation with its offset", () => {
  for (const length of [3, 0, -1, 0x7fffffff]) {
    const bytes = Buffer.concat([message("d", "ok"), Buffer.from([0x64, 0, 0, 0, 0])]);
    bytes.writeInt32BE(length, 8);
    const sink = { message: () => {} };
    assert.throws(
      () => readMessages(bytes, viewOf(bytes), 0, bytes.length, sink),
      (error) => isViolation(error) && (error as PgFloError).facts.offset === 7,
    );
  }
});

test("error fields become a DatabaseError with its SQLSTATE", () => {
  const body = Buffer.from("SERROR\0VERROR\0C42P01\0Mrelation is missing\0Hlook\0\0");
  const error = parseErrorFields(body, 0, body.length);
  assert.equal(error.message, "relation is missing");
  assert.equal(error.code, "42P01");
  assert.equal(error.hint, "look");
  for (let end = 0; end < body.length; end++) assert.throws(() => parseErrorFields(body, 0, end), isViolation);
});

test("random bytes in rows and errors end in a value or in a violation, never in another error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const parse of [
        () => parseDataRow(bytes, viewOf(bytes), 0, bytes.length),
        () => parseErrorFields(bytes, 0, bytes.length),
        () => readMessages(bytes, viewOf(bytes), 0, bytes.length, { message: () => {} }),
      ]) {
        try {
          parse();
        } catch (error) {
          assert.ok(isViolation(error), String(error));
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test("a data row gives text, empty text and null", () => {
  const body = Buffer.from([0, 3, 0, 0, 0, 2, 0xc3, 0xa4, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
  assert.deepEqual(parseDataRow(body, viewOf(body), 0, body.length), ["ä", "", null]);
});

test("a query carries its length in bytes, not in characters", () => {
  assert.deepEqual([...queryMessage("ä")], [0x51, 0, 0, 0, 7, 0xc3, 0xa4, 0]);
});

test("a status update holds what is written, what is flushed, and the time since 2000", () => {
  const status = { written: parseLsn("1/2"), flushed: parseLsn("0/A"), timeMs: 946_684_800_001, replyRequested: true };
  const expected = ["6400000026", "72", "0000000100000002", "000000000000000a", "000000000000000a", "00000000000003e8"];
  assert.equal(standbyStatusMessage(status).toString("hex"), `${expected.join("")}01`);
});
