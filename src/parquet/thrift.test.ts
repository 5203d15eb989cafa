import assert from "node:assert/strict";
import { test } from "node:test";
import { ThriftWriter } from "./thrift.ts";

// Expected bytes by hand from https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
function bytesOf(write: (thrift: ThriftWriter) => void): string {
  const thrift = new ThriftWriter();
  write(thrift);
  return Buffer.from(thrift.finish()).toString("hex");
}

test("an empty struct is a stop byte", () => {
  assert.equal(
    bytesOf(() => {}),
    "00",
  );
});

test("fields have their id's distance in the upper half, or the whole id behind when it is far", () => {
  assert.equal(
    bytesOf((thrift) => {
      thrift.i32(1, 1);
      thrift.i32(16, -1);
      thrift.i32(32, 0); // 16 ahead
    }),
    "1502" + "f501" + "0540" + "00" + "00",
  );
});

test("integers are zigzag varints up to the edges of their types", () => {
  assert.equal(
    bytesOf((thrift) => thrift.i32(1, 2147483647)),
    "15feffffff0f00",
  );
  assert.equal(
    bytesOf((thrift) => thrift.i32(1, -2147483648)),
    "15ffffffff0f00",
  );
  assert.equal(
    bytesOf((thrift) => thrift.i64(1, 2 ** 40)),
    "1680808080804000",
  );
  assert.equal(
    bytesOf((thrift) => thrift.i64(1, 2n ** 63n - 1n)),
    "16feffffffffffffffff0100",
  );
  assert.equal(
    bytesOf((thrift) => thrift.i64(1, -(2n ** 63n))),
    "16ffffffffffffffffff0100",
  );
  assert.equal(
    bytesOf((thrift) => thrift.i8(1, -1)),
    "13ff00",
  );
});

test("booleans are in the field's type, and bytes in a list", () => {
  assert.equal(
    bytesOf((thrift) => {
      thrift.bool(1, true);
      thrift.bool(2, false);
      thrift.boolList(3, [true, false]);
    }),
    "11" + "12" + "19210102" + "00",
  );
});

test("binary values are bytes behind their length, texts UTF-8", () => {
  assert.equal(
    bytesOf((thrift) => {
      thrift.binary(1, "é");
      thrift.binary(2, Uint8Array.of(0, 255));
      thrift.binary(3, "");
    }),
    "1802c3a9" + "180200ff" + "1800" + "00",
  );
});

test("a nested struct counts its ids from zero and the outer one goes on where it was", () => {
  assert.equal(
    bytesOf((thrift) => {
      thrift.i32(1, 1);
      thrift.struct(2);
      thrift.i32(1, 2);
      thrift.struct(3);
      thrift.end();
      thrift.end();
      thrift.i32(3, 3);
    }),
    "1502" + "1c" + "1504" + "2c00" + "00" + "1506" + "00",
  );
});

test("lists of fewer than 15 have their size in the header, longer ones behind it", () => {
  assert.equal(
    bytesOf((thrift) => thrift.i32List(1, [1, 2])),
    "1925020400",
  );
  assert.equal(
    bytesOf((thrift) =>
      thrift.i64List(
        1,
        Array.from({ length: 200 }, () => 0),
      ),
    ),
    `19f6c801${"00".repeat(200)}00`,
  );
  assert.equal(
    bytesOf((thrift) => thrift.binaryList(1, ["a", Uint8Array.of(1)])),
    "192801610101" + "00",
  );
  assert.equal(
    bytesOf((thrift) => thrift.structList(1, [5, 6], (item) => thrift.i32(2, item))),
    "192c" + "250a00" + "250c00" + "00",
  );
});

test("a value larger than the writer's first buffer arrives whole", () => {
  const large = new Uint8Array(100_000).fill(7);
  const hex = bytesOf((thrift) => thrift.binary(1, large));
  assert.equal(hex, `18a08d06${"07".repeat(100_000)}00`);
});
