import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { runCli } from "../../test/support/cli.ts";
import { makeTestFolder } from "../../test/support/folder.ts";

const run = promisify(execFile);
const binary = fileURLToPath(new URL("../../bin/pg-flo.js", import.meta.url));
const module = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);

/** Runs a script that adds one command, \`odd\`, to the program, as the integrator of a command would. */
async function runOdd(action: string, args: readonly string[]) {
  const script = `
    import { createProgram } from ${module("./main.ts")};
    import { withLog } from ${module("./context.ts")};
    import { EXIT_DONE, reportFailure } from ${module("./failure.ts")};
    import { printTable, printJson, streamOutput } from ${module("./output.ts")};
    const context = { env: {}, stdout: streamOutput(process.stdout, "standard output"), stderr: streamOutput(process.stderr, "standard error") };
    const odd = (program) => program.command("odd").action(withLog(context, async ({ stdout, log }) => { ${action} }));
    const args = ${JSON.stringify(args)};
    try { await createProgram(context, [odd]).parseAsync(args, { from: "user" }); process.exitCode = EXIT_DONE; }
    catch (error) { process.exitCode = await reportFailure(error, context, { json: args.includes("--json"), level: args.includes("debug") ? "debug" : "info" }); }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (text) => {
    stdout += text;
  });
  child.stderr.on("data", (text) => {
    stderr += text;
  });
  const [code] = await once(child, "close");
  return { code, stdout, stderr };
}

test("help and version go to stdout with 0; no command at all shows the help on stderr with 2", async () => {
  const help = await runCli(["--help"]);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /Usage: pg-flo[\s\S]*--config <file>[\s\S]*--json[\s\S]*--log-level[\s\S]*init/);
  assert.equal(help.stderr, "");
  const version = await runCli(["--version"]);
  assert.deepEqual([version.code, version.stdout.trim()], [0, packageVersion()]);
  const none = await runCli([]);
  assert.equal(none.code, 2);
  assert.match(none.stderr, /Usage: pg-flo/);
  assert.match((await runCli(["init", "--help"])).stdout, /Global Options:[\s\S]*--config/);
});

test("a wrong command line is one message and 2", async () => {
  const wrong: [string[], RegExp][] = [
    [["inti"], /unknown command 'inti' \(Did you mean init\?\); run pg-flo --help/],
    [["init", "--confg", "x"], /unknown option '--confg' \(Did you mean --config\?\)/],
    [["init", "x"], /too many arguments/],
    [["init", "--log-level", "loud"], /'loud' is invalid. Allowed choices are debug, info, warn, error; run/],
    [["init", "--config"], /argument missing/],
  ];
  for (const [args, expected] of wrong) {
    const { code, stdout, stderr } = await runCli(args);
    assert.equal(code, 2, args.join(" "));
    assert.equal(stdout, "");
    assert.match(stderr, expected);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
    assert.equal(JSON.parse((await runCli(["--json", ...args])).stderr).code, "CONFIG_INVALID");
  }
});

test("init writes a config once, checks it afterwards, and never changes it", async () => {
  await using folder = await makeTestFolder();
  const options = { cwd: folder.path, env: { PGPASSWORD: undefined } };
  const first = await runCli(["init"], options);
  assert.deepEqual([first.code, first.stderr], [0, ""]);
  assert.match(first.stdout, /^wrote pg-flo\.yaml: /);
  const file = join(folder.path, "pg-flo.yaml");
  const text = readFileSync(file, "utf8");

  const second = await runCli(["init"], options);
  assert.equal(second.code, 2);
  assert.match(second.stderr, /^\[CONFIG_INVALID\] pg-flo\.yaml:\n {2}source\.url \(line \d+\) names \$\{PGPASSWORD\}/);
  // Valid now, and looked at: no server of that name answers.
  writeFileSync(file, text.replace("localhost:5432", "localhost:1"));
  const third = await runCli(["init", "--json"], { ...options, env: { PGPASSWORD: "x" } });
  assert.equal(third.code, 1);
  assert.deepEqual(JSON.parse(third.stdout).created, false);
  writeFileSync(file, text);
  assert.equal(readFileSync(file, "utf8"), text);

  const other = await runCli(["--json", "init", "--config", "other.yaml"], options);
  assert.deepEqual(JSON.parse(other.stdout), { config: "other.yaml", created: true });
  assert.ok(existsSync(join(folder.path, "other.yaml")));
  const nowhere = await runCli(["init", "--config", "no/such/folder.yaml"], options);
  assert.equal(nowhere.code, 2);
  assert.match(nowhere.stderr, /no\/such\/folder\.yaml, cannot be written \(ENOENT\)/);
});

test("with --json a failure is one JSON object on stderr, with every mistake", async () => {
  await using folder = await makeTestFolder();
  writeFileSync(join(folder.path, "pg-flo.yaml"), "group: A\nsource: { password:hunter2 }\n");
  const { code, stdout, stderr } = await runCli(["init", "--json"], { cwd: folder.path });
  assert.deepEqual([code, stdout], [2, ""]);
  const failure = JSON.parse(stderr);
  assert.deepEqual([failure.level, failure.code, failure.mistakes], ["error", "CONFIG_INVALID", 6]);
  assert.ok(!stderr.includes("hunter2"));
});

test("an error that nobody expected is INTERNAL with 1, its stack shown only for debug, its secrets never", async () => {
  const action = 'throw new TypeError("at postgres://u:hunter2@h/d");';
  const plain = await runOdd(action, ["odd"]);
  assert.equal(plain.code, 1);
  assert.match(
    plain.stderr,
    /^\[INTERNAL\] TypeError: at postgres:\/\/u:\*\*\*@h\/d; this is a defect of pg-flo; [^\n]*\n$/,
  );
  const debug = await runOdd(action, ["odd", "--log-level", "debug"]);
  assert.match(debug.stderr, /\n {4}at [\s\S]*\ncaused by: TypeError: [\s\S]*\n {4}at /);
  assert.ok(!debug.stderr.includes("hunter2"));
  const json = await runOdd(action, ["odd", "--json", "--log-level", "debug"]);
  assert.equal(JSON.parse(json.stderr).code, "INTERNAL");
  assert.match(JSON.parse(json.stderr).stack, /caused by: TypeError/);
});

test("a rejection that nobody handles ends the program with one message and 1", async () => {
  const script = `
    import { main } from ${module("./main.ts")};
    process.argv = ["node", "pg-flo", "--help"];
    const exit = process.exit;
    process.exit = (code) => { if (code !== 0) exit(code); };
    await main();
    Promise.reject(new RangeError("lost"));
    setInterval(() => {}, 1000);`;
  const ended = run(process.execPath, ["--input-type=module", "-e", script]);
  await assert.rejects(ended, { code: 1, stderr: /^\[INTERNAL\] RangeError: lost; .*\n$/ });
});

test("tables are aligned, JSON keeps big integers, and a terminal is not obeyed", async () => {
  const action = `
    await printTable(stdout, [{ table: "a", rows: 5, note: null }, { table: "b\\u001b[2J\\n", rows: 12345n, note: 1 }]);
    await printTable(stdout, [], ["empty", "columns"]);
    await printTable(stdout, []);
    await printJson(stdout, { small: 5n, big: 2n ** 62n });
    log.info("noted", { rows: 1 });`;
  const { code, stdout, stderr } = await runOdd(action, ["odd"]);
  assert.equal(code, 0, stderr);
  assert.equal(
    stdout,
    [
      "table          rows  note",
      "a                 5",
      "b\\u001b[2J\\n  12345     1",
      "empty  columns",
      '{"small":5,"big":"4611686018427387904"}',
      "",
    ].join("\n"),
  );
  assert.match(stderr, /^\S+Z info {2}noted rows=1\n$/);
});

test("a reader that goes away is no error, and a command can notice it", async () => {
  const action =
    "let n = 0; while (!stdout.closed && n < 100000) { n++; await stdout.write('x'.repeat(1000)); } log.info('done', { noticed: n < 100000 });";
  const script = `
    import { withLog } from ${module("./context.ts")};
    import { createProgram } from ${module("./main.ts")};
    import { streamOutput } from ${module("./output.ts")};
    const context = { env: {}, stdout: streamOutput(process.stdout, "o"), stderr: streamOutput(process.stderr, "e") };
    const odd = (program) => program.command("odd").action(withLog(context, async ({ stdout, log }) => { ${action} }));
    await createProgram(context, [odd]).parseAsync(["odd"], { from: "user" });`;
  const { stderr, stdout } = await run("sh", [
    "-c",
    '"$0" --input-type=module -e "$1" | head -c 10',
    process.execPath,
    script,
  ]);
  assert.equal(stdout.length, 10);
  assert.match(stderr, /^\S+Z info {2}done noticed=true\n$/);
});

test("a standard output on a full disk is a failure, not a crash, and hides no other", async () => {
  await using folder = await makeTestFolder();
  const file = join(folder.path, "pg-flo.yaml");
  const init = () => run("sh", ["-c", 'exec "$0" "$1" init --config "$2" > /dev/full', process.execPath, binary, file]);
  await assert.rejects(init(), {
    code: 1,
    stderr: /^\[STORAGE_FAILED\] standard output, write, failed \(ENOSPC\)[^\n]*\n$/,
  });
  writeFileSync(file, "");
  await assert.rejects(init(), { code: 2, stderr: /^\[CONFIG_INVALID\] [^[]*$/ });
});

test("an old Node.js gets one line that says what is needed", async () => {
  // The real file in a process that says it is Node.js 22.
  const script = `Object.defineProperty(process, "versions", { value: { node: "22.1.0" } });
    await import(${JSON.stringify(new URL("../../bin/pg-flo.js", import.meta.url).href)});`;
  const ended = run(process.execPath, ["--input-type=module", "-e", script]);
  await assert.rejects(ended, {
    code: 1,
    stdout: "",
    stderr: /^pg-flo needs Node\.js 24 or newer, this is v\S+; install .*\n$/,
  });
});

function packageVersion(): string {
  return JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;
}
