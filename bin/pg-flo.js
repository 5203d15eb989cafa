#!/usr/bin/env node
// The command. Written so that every Node.js since version 10 can read it, and an old one says what is missing.
// A checkout runs the TypeScript sources (a forgotten dist/ would be an old pg-flo), the npm package the compiled ones.
if (Number(process.versions.node.split(".")[0]) < 24) {
  process.stderr.write(
    "pg-flo needs Node.js 24 or newer, this is " +
      process.version +
      "; install it from https://nodejs.org, or run: npx -p node@24 -p pg-flo pg-flo\n",
  );
  process.exitCode = 1;
} else {
  import("./start.js");
}
