// The house rules that a machine can hold: import direction, sizes, names, what may not be written.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** A folder of src/ imports itself and folders of earlier tiers; never one of its own tier or a later one. */
const tiers: readonly (readonly string[])[] = [
  ["base"],
  ["config", "postgres", "parquet", "storage"],
  ["types", "metadata"],
  ["copy", "stream", "sync", "query"],
  ["verify", "compact"],
  ["worker"],
  ["demo", "dashboard", "metrics"],
  ["cli"],
];

/** Where a package may be imported. Types alone (`import type`) are free: they leave nothing at run time. */
const vendors: Readonly<Record<string, readonly string[]>> = {
  "@aws-sdk/client-s3": ["src/storage/s3-bucket.ts"],
  "@node-rs/crc32": ["src/base/crc32.ts"],
  "@duckdb/node-api": ["src/query/", "src/verify/", "src/demo/"],
  commander: ["src/cli/"],
  pg: ["src/postgres/", "src/demo/"],
  pino: ["src/base/log.ts"],
  "prom-client": ["src/metrics/prometheus.ts"],
  snappy: ["src/parquet/"],
  yaml: ["src/config/"],
  zod: ["src/config/"],
};

const longestFile = 400;
const vagueNames = ["utils", "util", "helpers", "helper", "common", "manager", "misc", "shared"];

const forbidden: readonly { readonly what: string; readonly pattern: RegExp; readonly under: string }[] = [
  { what: "any", pattern: /(?::|\bas|<|\|)\s*any\b(?!["'`\w])/, under: "" },
  { what: "a switched-off type check", pattern: /@ts-(?:ignore|nocheck|expect-error)/, under: "" },
  {
    what: "a test that is skipped, alone or to do",
    pattern: /\b(?:test|it|describe|suite)\.(?:skip|only|todo)\b/,
    under: "",
  },
  { what: "a test that is skipped by option", pattern: /\{\s*(?:skip|only|todo):\s*true/, under: "" },
  {
    what: "an enum or namespace",
    pattern: /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?(?:enum|namespace)\s+\w/,
    under: "",
  },
  { what: "a barrel", pattern: /^export \* /, under: "" },
];

interface SourceFile {
  readonly path: string; // from the root, with /
  readonly lines: readonly string[];
  readonly imports: readonly { readonly target: string; readonly typeOnly: boolean; readonly line: number }[];
}

const root = fileURLToPath(new URL("..", import.meta.url));
const self = "test/layout.test.ts";
const files = globSync("{src,test,bench,scripts}/**/*.ts", { cwd: root })
  .map((path) => read(path.split("\\").join("/")))
  .filter((file) => file.path !== self);
const isTest = (file: SourceFile) => /\.test\.ts$/.test(file.path) || !file.path.startsWith("src/");

test("imports go down the layers", () => {
  const wrong = importsOf(files.filter((file) => !isTest(file))).filter(({ from, to }) => {
    if (!to.startsWith("src/")) return to !== "package.json"; // its version
    const [fromFolder, toFolder] = [folderOf(from), folderOf(to)];
    return fromFolder !== toFolder && !(tierOf(toFolder) < tierOf(fromFolder));
  });
  assert.deepEqual(wrong.map(describeImport), []);
});

test("every folder of src has a layer", () => {
  const folders = new Set(files.filter((file) => file.path.startsWith("src/")).map((file) => folderOf(file.path)));
  assert.deepEqual(
    [...folders].filter((folder) => tierOf(folder) === -1),
    [],
  );
});

test("no file imports itself through others", () => {
  const edges = new Map<string, string[]>();
  for (const { from, to, typeOnly } of importsOf(files)) {
    if (!typeOnly) edges.set(from, [...(edges.get(from) ?? []), to]);
  }
  assert.deepEqual(findCycle(edges), null);
});

test("a vendor's package stays in its folder", () => {
  const wrong = files
    .filter((file) => !isTest(file))
    .flatMap((file) =>
      file.imports
        .filter(({ target, typeOnly }) => !typeOnly && vendors[target] !== undefined)
        .filter(({ target }) => !vendors[target]?.some((place) => file.path.startsWith(place)))
        .map(({ target, line }) => `${file.path}:${line} imports ${target}, allowed in ${vendors[target]?.join(", ")}`),
    );
  assert.deepEqual(wrong, []);
});

test(`no file has more than ${longestFile} lines`, () => {
  const long = files.filter((file) => file.lines.length > longestFile);
  assert.deepEqual(
    long.map((file) => `${file.path}: ${file.lines.length}`),
    [],
  );
});

test("files are named for their subject, in kebab-case, and none is a barrel", () => {
  const wrong = files.filter(({ path }) => {
    const [stem = ""] = basename(path).split(".");
    const folders = dirname(path).split("/");
    return (
      !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(stem) ||
      [stem, ...folders].some((name) => [...vagueNames, "index"].includes(name))
    );
  });
  assert.deepEqual(
    wrong.map((file) => file.path),
    [],
  );
});

test("every source file opens with what it is for", () => {
  const wrong = files.filter((file) => !isTest(file) && !/^\/\/ \S|^\/\*\*? ?\S?/.test(file.lines[0] ?? ""));
  assert.deepEqual(
    wrong.map((file) => file.path),
    [],
  );
});

for (const { what, pattern, under } of forbidden) {
  test(`nowhere is ${what}`, () => {
    const found = files
      .filter((file) => file.path.startsWith(under))
      .flatMap((file) =>
        file.lines.flatMap((line, index) => (pattern.test(code(line)) ? [`${file.path}:${index + 1}`] : [])),
      );
    assert.deepEqual(found, []);
  });
}

function read(path: string): SourceFile {
  const text = readFileSync(join(root, path), "utf8");
  const statement =
    /^(?:import|export)\s+(type\s+)?(?:[^;"']*?\sfrom\s+)?["']([^"']+)["']|\bimport\(["']([^"']+)["']\)/gm;
  const imports = [...text.matchAll(statement)].map((match) => ({
    target: match[2] ?? match[3] ?? "",
    typeOnly: match[1] !== undefined,
    line: text.slice(0, match.index).split("\n").length,
  }));
  return { path, lines: text.trimEnd().split("\n"), imports };
}

function importsOf(from: readonly SourceFile[]) {
  return from.flatMap((file) =>
    file.imports
      .filter(({ target }) => target.startsWith("."))
      .map(({ target, typeOnly, line }) => ({
        from: file.path,
        to: relative(".", normalize(join(dirname(file.path), target)))
          .split("\\")
          .join("/"),
        typeOnly,
        line,
      })),
  );
}

function describeImport({ from, to, line }: { from: string; to: string; line: number }): string {
  return `${from}:${line} imports ${to}`;
}

function folderOf(path: string): string {
  return path.split("/")[1] ?? "";
}

function tierOf(folder: string): number {
  return tiers.findIndex((tier) => tier.includes(folder));
}

/** A line without strings and comments, roughly: enough for the rules above. */
function code(line: string): string {
  if (line.includes("@ts-")) return line;
  return line.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '""').replace(/(^|\s)(?:\/\/|\*|\/\*).*$/, "$1");
}

function findCycle(edges: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const next of edges.get(file) ?? []) {
      const cycle = visit(next, [...path, file]);
      if (cycle) return cycle;
    }
    done.add(file);
    return null;
  };
  for (const file of edges.keys()) {
    const cycle = visit(file, []);
    if (cycle) return cycle;
  }
  return null;
}
