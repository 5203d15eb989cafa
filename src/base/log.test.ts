import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PgFloError } from "./errors.ts";
import { createLog, errorFacts, type LogLevel, type LogOptions } from "./log.ts";
import { maskSecrets } from "./secrets.ts";

const TIME = new Date("2026-01-31T10:11:12.123Z");

function capture(options: Partial<LogOptions>) {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  return { lines, log: createLog({ json: false, level: "info", tty: false, now: () => TIME, write, ...options }) };
}

test("a line for people has time, level, message and facts", () => {
  const { lines, log } = capture({});
  log.info("copied range", {
    table: "public.orders",
    rows: 1000,
    lsn: 2n ** 63n,
    note: "a b",
    no: undefined,
    none: null,
  });
  log.debug("not shown");
  log.child({ stream: "app_1" }).child({ batch: 7 }).warn("slow", { batch: 8 });
  assert.deepEqual(lines, [
    '2026-01-31T10:11:12.123Z info  copied range table=public.orders rows=1000 lsn=9223372036854775808 note="a b" none=null\n',
    "2026-01-31T10:11:12.123Z warn  slow stream=app_1 batch=8\n",
  ]);
  const tty = capture({ tty: true });
  tty.log.error("x");
  assert.equal(tty.lines[0]!.slice(8), " \u001b[31merror\u001b[0m x\n");
});

test("a JSON line has the same, and stays parseable", () => {
  const { lines, log } = capture({ json: true, level: "debug" });
  log.child({ stream: "app_1" }).debug('a "b"\n', { rows: 10n, big: 2n ** 60n, level: "x", time: 1, message: "m" });
  assert.deepEqual(JSON.parse(lines[0]!), {
    level: "debug",
    time: "2026-01-31T10:11:12.123Z",
    message: 'a "b"\n',
    stream: "app_1",
    rows: 10,
    big: "1152921504606846976",
    level_: "x",
    time_: 1,
    message_: "m",
  });
});

test("levels below the chosen one are not written", () => {
  for (const json of [true, false]) {
    const { lines, log } = capture({ json, level: "warn" });
    for (const level of ["debug", "info", "warn", "error"] satisfies LogLevel[]) log[level](level);
    assert.equal(lines.length, 2);
  }
});

test("secrets are hidden, by name and by form, in both kinds of lines", () => {
  for (const json of [true, false]) {
    const { lines, log } = capture({ json });
    log.info("connect postgres://u:hunter2@h/d and host=h password=hunter2 user=u", {
      password: "hunter2",
      apiKey: "hunter2",
      secret_access_key: "hunter2",
      url: "postgres://u:hunter2@x:p@h/d?password=hunter2&sslmode=require",
      dsn: "password='hunter2 x' host=h",
    });
    assert.ok(!lines.join("").includes("hunter2"), lines.join(""));
    assert.ok(lines.join("").includes("sslmode=require"));
  }
  assert.equal(maskSecrets("postgres://u@h/d, rows=5, mail a@b.c"), "postgres://u@h/d, rows=5, mail a@b.c");
});

test("whatever the message and the facts hold, a line is one line without terminal escapes", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), fc.boolean(), (message, value, json) => {
      const { lines, log } = capture({ json });
      log.info(`${message}\u001b[2J\n`, { value, name: `${value}\r\n` });
      assert.equal(lines.length, 1);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
      assert.match(lines[0]!, /^[^\u0000-\u001f\u007f]*\n$/u);
      if (json) JSON.parse(lines[0]!);
    }),
  );
});

test("an error becomes facts: code, message and its own facts", () => {
  const error = new PgFloError("STORAGE_FULL", "/data, write", { facts: { path: "/data" } });
  assert.deepEqual(errorFacts(error), { path: "/data", code: "STORAGE_FULL", error: error.message });
  assert.deepEqual(errorFacts(new TypeError("x")), { code: "INTERNAL", error: "TypeError: x" });
  assert.deepEqual(errorFacts("x"), { code: "INTERNAL", error: "x" });
});
