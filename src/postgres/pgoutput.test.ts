import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PgFloError } from "../base/errors.ts";
import { PgoutputParser } from "./pgoutput.ts";
import type { PgoutputHandler } from "./pgoutput-handler.ts";

type Event = [string, ...unknown[]];

/** A handler that writes down each call. */
function recorder(): { events: Event[]; handler: PgoutputHandler } {
  const events: Event[] = [];
  const handler = new Proxy({} as PgoutputHandler, {
    get:
      (_target, name) =>
      (...parameters: unknown[]) =>
        events.push([String(name), ...parameters]),
  });
  return { events, handler };
}

const int16 = (value: number) => [value >> 8, value & 255];
const int32 = (value: number) => [...int16(value >>> 16), ...int16(value & 0xffff)];
const int64 = (value: bigint) => [...int32(Number(value >> 32n)), ...int32(Number(value & 0xffffffffn))];
const text = (value: string) => [...Buffer.from(value), 0];
const code = (value: string) => value.charCodeAt(0);
const value = (kind: string, content: string) => [
  code(kind),
  ...int32(Buffer.byteLength(content)),
  ...Buffer.from(content),
];
const tuple = (...columns: number[][]) => [...int16(columns.length), ...columns.flat()];
const row = tuple(value("b", "12345678"), [code("n")], [code("u")], value("t", "text"));
const key = tuple(value("b", "1"), [code("n")]);

const relation = [
  ...int32(4_000_000_000),
  ...text("pub lic"),
  ...text('select "ü'),
  code("f"),
  ...int16(2),
  ...[1, ...text("id"), ...int32(20), ...int32(-1)],
  ...[0, ...text(""), ...int32(1700), ...int32(655366)],
];

/** Every message outside of a stream block, with the call that it must make. */
const messages: [string, number[], Event][] = [
  ["B", [...int64(0xffffffff_00000001n), ...int64(-5n), ...int32(7)], ["begin", 0xffffffff_00000001n, -5n, 7]],
  ["C", [0, ...int64(1n), ...int64(2n), ...int64(3n)], ["commit", 1n, 2n, 3n]],
  ["O", [...int64(9n), ...text("node a")], ["origin", 9n, "node a"]],
  ["Y", [...int32(70000), ...text("s"), ...text("mood")], ["type", { oid: 70000, schema: "s", name: "mood" }]],
  ["I", [...int32(16384), code("N"), ...row], ["insert", 16384, 6, 6 + row.length]],
  ["U", [...int32(16384), code("N"), ...row], ["update", 16384, 0, 0, 0, 6, 6 + row.length]],
  [
    "U",
    [...int32(16384), code("K"), ...key, code("N"), ...row],
    ["update", 16384, code("K"), 6, 6 + key.length, 7 + key.length, 7 + key.length + row.length],
  ],
  ["D", [...int32(16384), code("O"), ...row], ["delete", 16384, code("O"), 6, 6 + row.length]],
  ["T", [...int32(2), 3, ...int32(16384), ...int32(16385)], ["truncate", [16384, 16385], 3]],
  ["M", [1, ...int64(5n), ...text("pg-flo"), ...int32(3), 1, 0, 2], ["message", true, 5n, "pg-flo", 21, 24]],
  ["c", [...int32(8), 0, ...int64(1n), ...int64(2n), ...int64(3n)], ["streamCommit", 8, 1n, 2n, 3n]],
  ["A", [...int32(8), ...int32(9)], ["streamAbort", 8, 9, undefined, undefined]],
  ["A", [...int32(8), ...int32(9), ...int64(4n), ...int64(5n)], ["streamAbort", 8, 9, 4n, 5n]],
  [
    "R",
    relation,
    [
      "relation",
      {
        oid: 4_000_000_000,
        schema: "pub lic",
        name: 'select "ü',
        replicaIdentity: "f",
        columns: [
          { flags: 1, name: "id", typeOid: 20, typmod: -1 },
          { flags: 0, name: "", typeOid: 1700, typmod: 655366 },
        ],
      },
    ],
  ],
];

function parse(parser: PgoutputParser, bytes: Uint8Array, start = 0, end = bytes.length): void {
  parser.parse(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), start, end);
}

function isViolation(error: unknown): boolean {
  return error instanceof PgFloError && error.code === "PROTOCOL_VIOLATION" && typeof error.facts.offset === "number";
}

test("each message makes its call with its fields and positions", () => {
  for (const [type, body, expected] of messages) {
    const { events, handler } = recorder();
    parse(new PgoutputParser(handler), Uint8Array.from([code(type), ...body]));
    assert.deepEqual(events, [expected], type);
  }
});

test("positions count from the buffer's start, wherever the message lies", () => {
  const { events, handler } = recorder();
  const body = [code("I"), ...int32(1), code("N"), ...row];
  parse(new PgoutputParser(handler), Uint8Array.from([0, 0, 0, ...body, 0, 0]), 3, 3 + body.length);
  assert.deepEqual(events, [["insert", 1, 9, 9 + row.length]]);
});

test("a message cut off anywhere is a violation with its offset, even when more bytes lie behind it", () => {
  for (const [type, body] of messages) {
    const bytes = Uint8Array.from([code(type), ...body, ...body]);
    for (let end = 0; end <= body.length; end++) {
      // An abort without its details is a whole message of an older protocol.
      if (type === "A" && end === 9) continue;
      const { events, handler } = recorder();
      assert.throws(() => parse(new PgoutputParser(handler), bytes, 0, end), isViolation, `${type} cut at ${end}`);
      assert.deepEqual(events, []);
    }
  }
});

test("a message with a byte too many is a violation", () => {
  for (const [type, body] of messages) {
    const parser = new PgoutputParser(recorder().handler);
    assert.throws(() => parse(parser, Uint8Array.from([code(type), ...body, 0])), isViolation, type);
  }
});

test("random and damaged messages end in a call or in a violation", () => {
  const damaged = fc
    .tuple(fc.nat(messages.length - 1), fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 }))
    .map(([index, changes]) => {
      const [type, body] = messages[index]!;
      const bytes = Uint8Array.from([code(type), ...body]);
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
      return bytes;
    });
  fc.assert(
    fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 40 })), fc.boolean(), (bytes, inStream) => {
      const parser = new PgoutputParser(recorder().handler);
      if (inStream) parse(parser, Uint8Array.from([code("S"), ...int32(1), 1]));
      try {
        parse(parser, bytes);
      } catch (error) {
        assert.ok(isViolation(error), String(error));
      }
    }),
    { numRuns: 5000 },
  );
});

test("inside of a stream block every change carries its own transaction", () => {
  const { events, handler } = recorder();
  const parser = new PgoutputParser(handler);
  parse(parser, Uint8Array.from([code("S"), ...int32(100), 1]));
  assert.equal(parser.inStream, true);
  for (const [type, body, expected] of messages.filter(([type]) => "RYIUDTM".includes(type))) {
    events.length = 0;
    parse(parser, Uint8Array.from([code(type), ...int32(101), ...body]));
    assert.equal(events.length, 1);
    assert.equal(events[0]![0], expected[0]);
    assert.equal(parser.xid, 101);
  }
  parse(parser, Uint8Array.from([code("E")]));
  assert.equal(parser.xid, 0);
  assert.throws(() => parse(parser, Uint8Array.from([code("E")])), isViolation);
  parse(parser, Uint8Array.from([code("I"), ...int32(1), code("N"), ...row]));
  assert.deepEqual(events.at(-1), ["insert", 1, 6, 6 + row.length]);
});

test("messages of prepared transactions and unknown ones are violations", () => {
  for (const type of "bPKrpZ?\0") {
    const bytes = Uint8Array.from([code(type), 0, 0, 0, 0, 0]);
    assert.throws(() => parse(new PgoutputParser(recorder().handler), bytes), isViolation);
  }
});
