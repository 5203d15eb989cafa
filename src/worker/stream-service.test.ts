import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamService, type StreamServiceOptions } from "./stream-service.ts";

test("who waits for a stream that never comes is told to end, whether the end is told before or meanwhile", async () => {
  const service = new StreamService({ definitions: { binary: true } } as StreamServiceOptions);
  const reason = new Error("the end");
  await assert.rejects(service.running(AbortSignal.abort(reason)), reason);
  const end = new AbortController();
  const waiting = assert.rejects(service.running(end.signal), reason);
  end.abort(reason);
  await waiting;
});
