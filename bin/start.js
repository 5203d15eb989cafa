// Starts the program in a Node.js that is new enough (bin/pg-flo.js has looked).
import { existsSync } from "node:fs";

const source = new URL("../src/cli/main.ts", import.meta.url);
const compiled = new URL("../dist/cli/main.js", import.meta.url);
const { main } = await import(existsSync(source) ? source.href : compiled.href);
await main();
