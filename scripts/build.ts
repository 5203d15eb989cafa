// Makes dist/ for the package: compiled JavaScript, and the SQL files that the code reads at run time.
import { spawnSync } from "node:child_process";
import { chmod, cp, glob, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");

await rm(dist, { recursive: true, force: true });
const compiler = join(root, "node_modules", ".bin", "tsc");
const compiled = spawnSync(compiler, ["-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
if (compiled.error) throw compiled.error;
if (compiled.status !== 0) process.exit(compiled.status ?? 1);
for await (const file of glob("**/*.sql", { cwd: join(root, "src") })) {
  await cp(join(root, "src", file), join(dist, file));
}
await chmod(join(root, "bin", "pg-flo.js"), 0o755);
