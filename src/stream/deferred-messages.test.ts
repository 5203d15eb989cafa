import assert from "node:assert/strict";
import { test } from "node:test";
import { type Lsn, lsn } from "../base/lsn.ts";
import { DeferredMessages, type MessageReader } from "./deferred-messages.ts";

const PASSES = 65;

test("what is put off comes in order, and keepalives in a row are one", () => {
  const read: string[] = [];
  const reader: MessageReader = {
    data: (bytes, _view, start, end) => read.push(Buffer.from(bytes.subarray(start, end)).toString()),
    keepalive: (walEnd: Lsn) => read.push(String(walEnd)),
  };
  const deferred = new DeferredMessages();
  let defers = true;
  const messages = deferred.reader(
    reader,
    () => defers,
    (type) => type === PASSES,
  );
  const send = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    messages.data(bytes, new DataView(bytes.buffer), 0, bytes.length);
  };
  for (let position = 1n; position <= 5000n; position++) messages.keepalive(lsn(position));
  assert.equal(deferred.waiting, false);
  send("A passes");
  assert.deepEqual(read.splice(0), ["A passes"]);
  send("B waits");
  messages.keepalive(lsn(6000n));
  messages.keepalive(lsn(6001n));
  send("A waits behind it");
  assert.equal(deferred.waiting, true);
  let count = 0;
  deferred.drain(reader, () => count++ < 2);
  assert.deepEqual(read.splice(0), ["5000", "B waits"]);
  messages.keepalive(lsn(7000n));
  deferred.drain(reader, () => true);
  assert.deepEqual(read.splice(0), ["6001", "A waits behind it", "7000"]);
  defers = false;
  send("at once");
  assert.deepEqual([read.splice(0), deferred.waiting], [["at once"], false]);
});
