// Makes dist/ for the package: our own modules brought together in a few files, which a command, a copier's thread and the
// process that compacts load in half of the time that three hundred files take, and the SQL that the code reads at run
// time. Dependencies stay what npm installs.
import { chmod, cp, glob, rm } from "node:fs/promises";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const src = join(root, "src");
const dist = join(root, "dist");

await rm(dist, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  // What runs by itself; the other two are found beside the file that starts them (base/code-file.ts).
  entryPoints: ["src/cli/main.ts", "src/copy/copier-thread.ts", "src/worker/compact-process.ts"],
  entryNames: "[name]",
  outdir: dist,
  bundle: true,
  splitting: true,
  packages: "external",
  platform: "node",
  target: "node24",
  format: "esm",
  logLevel: "warning",
});
// A module finds them beside itself or below; here all modules are in one folder.
for await (const file of glob("*/**/*.sql", { cwd: src })) {
  await cp(join(src, file), join(dist, ...file.split(sep).slice(1)));
}
await chmod(join(root, "bin", "pg-flo.js"), 0o755);
