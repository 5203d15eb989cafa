import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { baseFilePath, copyFilePath, mergedFilePath, parseFilePath, streamFilePath, tableFolder } from "./paths.ts";

test("ordinary names stand in the path as they are", () => {
  assert.equal(
    copyFilePath("app", "public", "order_lines", 12, "a1b2"),
    "app/public.order_lines/copy/000012-a1b2.parquet",
  );
  const time = new Date("2026-03-01T00:30:00+02:00");
  assert.equal(
    streamFilePath("app", "sales", "t", time, "3-7", 1),
    "app/sales.t/stream/2026/02/28/22/3-7-000001.parquet",
  );
});

test("odd names are percent-encoded, so that none looks like another, also where case is ignored", () => {
  assert.equal(tableFolder("a.b", "c"), "a%2Eb.c");
  assert.equal(tableFolder("a", "b.c"), "a.b%2Ec");
  assert.equal(tableFolder("public", "Orders"), "public.%4Frders");
  assert.equal(tableFolder("public", "../x y/é~%"), "public.%2E%2E%2Fx%20y%2F%C3%A9%7E%25");
  assert.equal(decodeURIComponent(tableFolder("public", 'Ünï "q"')), 'public.Ünï "q"');
});

test("the longest names still fit into a folder's name", () => {
  const long = "Ü".repeat(31);
  const folder = tableFolder(long, `${long}a`);
  assert.ok(folder.length <= 200, folder);
  assert.match(folder, /^(%[0-9A-F]{2})+\.(%[0-9A-F]{2})+~[0-9a-f]{32}$/);
  assert.notEqual(folder, tableFolder(long, `${long}b`));
});

/** Names as Postgres has them: any characters but NUL, 1 to 63 bytes. */
const names = fc
  .oneof(
    fc.string({
      unit: fc.constantFrom("a", "A", ".", "%", "~", "/", "-", "é", "😀", "4", "1"),
      minLength: 1,
      maxLength: 63,
    }),
    fc.string({ unit: "binary", minLength: 1, maxLength: 63 }),
  )
  .filter((name) => !name.includes("\0") && name.isWellFormed() && Buffer.byteLength(name) <= 63);

test("different tables, ranges, batches and files have different paths, also where case is ignored", () => {
  const ids = fc.stringMatching(/^[A-Za-z0-9-]{1,8}$/);
  const numbers = fc.nat({ max: 20_000_000 });
  const tables = fc.tuple(names, names, numbers, ids);
  const distinct = (a: unknown, b: unknown, path: (value: never) => string) => {
    if (JSON.stringify(a) === JSON.stringify(b)) return;
    assert.notEqual(path(a as never).toLowerCase(), path(b as never).toLowerCase());
  };
  const copy = ([schema, table, number, id]: [string, string, number, string]) =>
    copyFilePath("g", schema, table, number, id);
  const stream = ([schema, table, number, id]: [string, string, number, string]) =>
    streamFilePath("g", schema, table, new Date(0), id, number);
  fc.assert(
    fc.property(tables, tables, (a, b) => {
      distinct(a, b, copy);
      distinct(a, b, stream);
      // Near misses: the same text split elsewhere, and the other case.
      distinct(a, [a[0] + a[1], a[1], a[2], a[3]], copy);
      distinct(a, [a[0].toLowerCase(), a[1].toUpperCase(), a[2], a[3].toUpperCase()], stream);
    }),
    { numRuns: 2000 },
  );
});

test("every part of a path is a safe name of at most 255 bytes", () => {
  fc.assert(
    fc.property(names, names, names, (schema, table, id) => {
      for (const part of copyFilePath("g", schema, table, 1, id).split("/")) {
        assert.match(part, /^[a-z0-9_%A-F][A-Za-z0-9_%.~-]*$|^-/);
        assert.ok(part.length <= 255 && part !== "..");
      }
    }),
  );
});

test("a path tells again whose it is, and nothing is said about files that were not made here", () => {
  const folder = tableFolder("sales", "Ünï.t");
  assert.deepEqual(parseFilePath(copyFilePath("app", "sales", "Ünï.t", 7, "a1b2")), {
    kind: "copy",
    folder,
    rangeNumber: 7,
  });
  assert.deepEqual(parseFilePath(streamFilePath("app", "sales", "Ünï.t", new Date(0), "2-31-00000007", 12)), {
    kind: "stream",
    folder,
    stream: 2,
    epoch: 31n,
  });
  const merged = mergedFilePath(streamFilePath("app", "sales", "Ünï.t", new Date(0), "2-31-00000007", 12), 9n, 3);
  for (const path of [merged, baseFilePath("app", "sales", "Ünï.t", 9n, 4)]) {
    assert.deepEqual(parseFilePath(path), { kind: "compacted", folder, compaction: 9n }, path);
  }
  for (const path of [
    "app/public.t/c1-000001.parquet",
    "app/public.t/stream/c1-000001.parquet",
    "app/public.t/copy/c-000001.parquet",
    "app/notes.txt",
    "app/public.t/copy/notes.parquet",
    "app/public.t/copy/000001-x.csv",
    "app/public.t/copy/more/000001-x.parquet",
    "app/public.t/stream/000001-x.parquet",
    "app/public.t/stream/2026/01/01/00/mine.parquet",
    "app/public.t/other/000001-x.parquet",
    "app/public/copy/000001-x.parquet",
  ]) {
    assert.equal(parseFilePath(path), undefined, path);
  }
});
