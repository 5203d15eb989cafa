#!/usr/bin/env node
// The command. A checkout runs the TypeScript sources, the npm package the compiled ones.
import { existsSync } from "node:fs";

const [major] = process.versions.node.split(".");
if (Number(major) < 24) {
  process.stderr.write(
    `[CONFIG_INVALID] Node.js, version 24 or newer is needed, this is ${process.version}; ` +
      "install Node.js 24, or in a checkout use npm scripts, which bring it: npm run demo\n",
  );
  process.exit(2);
}

const source = new URL("../src/cli/main.ts", import.meta.url);
const compiled = new URL("../dist/cli/main.js", import.meta.url);
await import(existsSync(source) ? source.href : compiled.href);
