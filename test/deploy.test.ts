// What can be said of deploy/ without any tool: files parse, and ports, paths, metrics, labels, flags and variables that
// they name exist in the program. `npm run check:deploy` asks the tools' own linters.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { createProgram, registeredCommands } from "../src/cli/main.ts";
import { parseConfig } from "../src/config/load.ts";
import { httpPaths } from "../src/metrics/http-paths.ts";
import { metricList, metricNames } from "../src/metrics/metric-list.ts";
import { prometheusText } from "../src/metrics/prometheus.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string) => readFileSync(`${root}/${path}`, "utf8");
const yaml = (path: string) => parse(read(path));

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly query: unknown; readonly name: string }[] };
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string }[];
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
}

const dashboard = JSON.parse(read("deploy/grafana/pg-flo.json")) as Dashboard;
const rules = (yaml("deploy/prometheus/alerts.yaml") as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);
const container = yaml("deploy/kubernetes/deployment.yaml").spec.template.spec.containers[0];

test("every YAML file of deploy/ is YAML", () => {
  const paths = globSync("deploy/**/*.yaml", { cwd: root });
  assert.ok(paths.length >= 10);
  for (const path of paths) {
    for (const document of parseAllDocuments(read(path))) assert.deepEqual(document.errors, [], path);
  }
});

test("metrics and labels of the dashboard, the alerts and the autoscalers exist", () => {
  const scaled = yaml("deploy/kubernetes/scaledobject.yaml").spec.triggers.map(
    (trigger: { metadata: { query: string } }) => trigger.metadata.query,
  );
  const external = yaml("deploy/kubernetes/horizontalpodautoscaler.yaml").spec.metrics[0].external.metric.name;
  const expressions = [
    ...dashboard.panels.flatMap((panel) => panel.targets?.map(({ expr }) => expr) ?? []),
    ...rules.map(({ expr }) => expr),
    ...scaled,
    external,
  ];
  assert.ok(expressions.length > 50);
  const foreign = prometheusText("app").metrics();
  const known = new Set([...metricNames, ...foreign.map(({ name }) => name)]);
  for (const expression of expressions) {
    const used = [...expression.matchAll(/\b((?:pg_flo|process|nodejs)_[a-z0-9_]+)(?:\{([^}]*)\})?/g)];
    assert.ok(used.length > 0 || expression.startsWith("up{"), expression);
    for (const [, name, selector = ""] of used) {
      const base = metricOf(name!);
      assert.ok(known.has(base), `${name} in ${expression}`);
      const labels = [...selector.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label!);
      const own: readonly string[] = metricList[base as keyof typeof metricList]?.labels ?? [];
      for (const label of labels) assert.ok([...own, "group", "job", "instance", "le"].includes(label), expression);
    }
  }
});

test("the dashboard's panels have a description and a unit, and do not lie over each other", () => {
  const { panels } = dashboard;
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  for (const panel of panels.filter(({ type }) => type !== "row")) {
    assert.ok(panel.description && panel.title && panel.fieldConfig?.defaults.unit, panel.title);
    const { x, y, w, h } = panel.gridPos;
    assert.ok(x + w <= 24, panel.title);
    for (const { id, title, gridPos: other } of panels) {
      const apart = x + w <= other.x || other.x + other.w <= x || y + h <= other.y || other.y + other.h <= y;
      assert.ok(apart || id === panel.id, `${panel.title} lies over ${title}`);
    }
  }
});

test("each alert has its row in docs/operations.md, and no other", () => {
  const told = [...read("docs/operations.md").matchAll(/^\| `(PgFlo\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(
    told,
    rules.map(({ alert }) => alert),
  );
});

test("commands and flags that deploy/ runs exist", () => {
  const dockerfile = read("deploy/Dockerfile");
  const [, command] = /^CMD (\[.*\])$/m.exec(dockerfile)!;
  const [, unit] = /^ExecStart=\S+ (.*)$/m.exec(read("deploy/systemd/pg-flo@.service"))!;
  const output = { write: async () => {}, post: () => {}, closed: false, isTty: false, columns: 80 };
  const program = createProgram({ env: {}, stdout: output, stderr: output }, registeredCommands);
  for (const args of [JSON.parse(command!) as string[], container.args as string[], unit!.split(" ")]) {
    const [name, ...others] = args;
    const found = program.commands.find((each) => each.name() === name);
    assert.ok(found, name);
    const flags = [...program.options, ...found.options].map(({ long }) => long);
    for (const flag of others.filter((arg) => arg.startsWith("-"))) assert.ok(flags.includes(flag), flag);
    assert.ok(others.includes("--config"));
  }
});

test("the config of the ConfigMap is valid, its variables are in the Secret, its port and paths are those of the probes", () => {
  const config = yaml("deploy/kubernetes/configmap.yaml").data["pg-flo.yaml"] as string;
  const secrets = Object.keys(yaml("deploy/kubernetes/secret.yaml").stringData);
  for (const [, variable] of config.matchAll(/\$\{(\w+)\}/g)) assert.ok(secrets.includes(variable!), variable);
  const env = Object.fromEntries(secrets.map((name) => [name, "x"]));
  const parsed = parseConfig(config, { env, baseDir: "/etc/pg-flo", file: "pg-flo.yaml" });
  const [port] = container.ports;
  assert.equal(parsed.http?.port, port.containerPort);
  assert.deepEqual(
    [container.livenessProbe.httpGet, container.readinessProbe.httpGet],
    [
      { path: httpPaths.live, port: port.name },
      { path: httpPaths.ready, port: port.name },
    ],
  );
  const mounts = container.volumeMounts.map(({ mountPath }: { mountPath: string }) => mountPath);
  assert.ok(mounts.includes(parsed.stream.spillFolder));
  const { annotations } = yaml("deploy/kubernetes/deployment.yaml").spec.template.metadata;
  assert.deepEqual(
    [annotations["prometheus.io/path"], annotations["prometheus.io/port"]],
    [httpPaths.metrics, String(port.containerPort)],
  );
  const dockerfile = read("deploy/Dockerfile");
  assert.match(dockerfile, new RegExp(`^EXPOSE ${port.containerPort}$`, "m"));
  assert.ok(dockerfile.includes(`http://127.0.0.1:${port.containerPort}${httpPaths.live}`));
});

test("the image and the manifests run on the Node that the package wants, and as nobody special", () => {
  const engines = (JSON.parse(read("package.json")) as { engines: { node: string } }).engines.node;
  const images = [...read("deploy/Dockerfile").matchAll(/^FROM node:(\d+)/gm)].map(([, major]) => `>=${major}`);
  assert.deepEqual(images, [engines, engines]);
  assert.match(read("deploy/Dockerfile"), /^USER 1000:1000$/m);
  assert.equal(yaml("deploy/kubernetes/deployment.yaml").spec.template.spec.securityContext.runAsUser, 1000);
});

/** Of a histogram's series, the histogram. */
function metricOf(series: string): string {
  const base = series.replace(/_(bucket|sum|count)$/, "");
  return metricList[base as keyof typeof metricList]?.type === "histogram" ? base : series;
}
