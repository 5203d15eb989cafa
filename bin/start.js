// Starts the program in a Node.js that is new enough (bin/pg-flo.js has looked).
import { existsSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Compiling is half of the time of a short command, and of a copier thread's start. Threads and processes take the folder
// from the environment; NODE_DISABLE_COMPILE_CACHE=1 does without.
process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), "node-compile-cache"); // Node.js's own place for it
enableCompileCache(process.env.NODE_COMPILE_CACHE);

const source = new URL("../src/cli/main.ts", import.meta.url);
const compiled = new URL("../dist/main.js", import.meta.url);
const { main } = await import(existsSync(source) ? source.href : compiled.href);
await main();
