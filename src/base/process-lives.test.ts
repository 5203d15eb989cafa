import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { processLives } from "./process-lives.ts";

test("a process lives until it ends, whether or not its parent waited for it", { timeout: 60_000 }, async () => {
  // The shell becomes a `sleep`, which waits for nobody's end.
  const parent = spawn("sh", ["-c", "sleep 0.5 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const child = Number(String(line));
    assert.ok(processLives(process.pid) && processLives(parent.pid!) && processLives(child));
    while (processLives(child)) await sleep(20);
    process.kill(child, 0); // it is still in the table of processes
  } finally {
    parent.kill("SIGKILL");
    await once(parent, "exit");
  }
  assert.ok(!processLives(parent.pid!));
});
