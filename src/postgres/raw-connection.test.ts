import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import { test } from "node:test";
import { PgFloError } from "../base/errors.ts";
import { type CopyHandler, RawConnection } from "./raw-connection.ts";
import { StreamSource } from "./socket.ts";

function message(type: string, body: string | Uint8Array): Buffer {
  const content = Buffer.from(body as string);
  const header = Buffer.alloc(5);
  header.write(type, 0, "latin1");
  header.writeInt32BE(content.length + 4, 1);
  return Buffer.concat([header, content]);
}

/** A server that answers the first query with the given pieces, one per turn of the loop, then may close. */
function scripted(pieces: Uint8Array[], close = false): RawConnection {
  let started = false;
  const stream = new Duplex({
    read() {},
    write(_chunk, _encoding, done) {
      done();
      if (started) return;
      started = true;
      void (async () => {
        for (const piece of pieces) {
          stream.push(piece);
          await new Promise(setImmediate);
        }
        if (close) stream.push(null);
      })();
    },
  });
  return new RawConnection(new StreamSource(stream), "scripted", 60_000);
}

function collector(): CopyHandler & { rows: string[]; chunks: number } {
  return {
    rows: [],
    chunks: 0,
    row(bytes, view, start, end) {
      assert.equal(view.getUint8(start), bytes[start]);
      this.rows.push(Buffer.from(bytes.subarray(start, end)).toString());
    },
    chunk() {
      this.chunks++;
    },
  };
}

const good = Buffer.concat([
  message("N", "SNOTICE\0C00000\0Mhello\0\0"),
  message("H", Buffer.from([1, 0, 0])),
  message("d", "first"),
  message("d", "second row"),
  message("S", "TimeZone\0UTC\0"),
  message("d", "third"),
  message("c", ""),
  message("C", "COPY 3\0"),
  message("Z", "I"),
]);

test("a copy is the same at every split of the server's bytes", async () => {
  for (let split = 1; split < good.length; split++) {
    const handler = collector();
    const connection = scripted([good.subarray(0, split), good.subarray(split)]);
    await connection.copyOut("COPY", handler);
    assert.deepEqual(handler.rows, ["first", "second row", "third"]);
    connection.destroy();
  }
});

test("a copy byte by byte is the same", async () => {
  const handler = collector();
  await scripted([...good].map((byte) => Uint8Array.of(byte))).copyOut("COPY", handler);
  assert.deepEqual(handler.rows, ["first", "second row", "third"]);
});

test("a connection that ends at any byte of a copy is CONNECTION_LOST, once", async () => {
  for (let length = 0; length < good.length; length++) {
    const connection = scripted([good.subarray(0, length)], true);
    await assert.rejects(
      connection.copyOut("COPY", collector()),
      (error) => error instanceof PgFloError && error.code === "CONNECTION_LOST",
    );
    await assert.rejects(connection.query("select 1"), { code: "CONNECTION_LOST" });
    await connection.close();
  }
});

test("bytes stay as they are until the handler's promise is done, and reading waits for it", async () => {
  const rows = Array.from({ length: 3000 }, (_, i) => `row ${i} ${"x".repeat(500)}`);
  const pieces = [message("H", Buffer.from([1, 0, 0])), ...rows.map((row) => message("d", row))];
  pieces.push(message("c", ""), message("C", "COPY\0"), message("Z", "I"));
  const seen: string[] = [];
  let views: Uint8Array[] = [];
  let waiting = false;
  await scripted([Buffer.concat(pieces.slice(0, 1500)), Buffer.concat(pieces.slice(1500))]).copyOut("COPY", {
    row(bytes, _view, start, end) {
      assert.equal(waiting, false);
      views.push(bytes.subarray(start, end));
    },
    async chunk() {
      waiting = true;
      for (let i = 0; i < 5; i++) await new Promise(setImmediate);
      seen.push(...views.map((view) => Buffer.from(view).toString()));
      views = [];
      waiting = false;
    },
  });
  assert.deepEqual(seen, rows);
});

test("what the handler throws, in a row or in a chunk, is what the copy rejects with", async () => {
  const boom = new Error("boom");
  const thrower = () => {
    throw boom;
  };
  for (const handler of [
    { row: thrower, chunk: () => {} },
    { row: () => {}, chunk: thrower },
    { row: () => {}, chunk: () => Promise.reject(boom) },
  ]) {
    await assert.rejects(scripted([good]).copyOut("COPY", handler), (error) => error === boom);
  }
});

test("garbage instead of messages is PROTOCOL_VIOLATION", async () => {
  for (const bytes of [
    Buffer.from("HTTP/1.1 400 Bad Request"),
    message("!", ""),
    message("G", "x"),
    message("D", ""),
  ]) {
    await assert.rejects(scripted([bytes]).copyOut("COPY", collector()), { code: "PROTOCOL_VIOLATION" });
  }
});

test("a server's error before it closes says more than the close", async () => {
  const error = message("E", "SFATAL\0C28P01\0Mno such user\0\0");
  await assert.rejects(scripted([error], true).query("select 1"), { code: "AUTHENTICATION_FAILED" });
});

test("a second operation at the same time is refused and does not disturb the first", async () => {
  const connection = scripted([good]);
  const handler = collector();
  const copy = connection.copyOut("COPY", handler);
  await assert.rejects(connection.query("select 1"), { code: "INTERNAL" });
  await copy;
  assert.equal(handler.rows.length, 3);
});
