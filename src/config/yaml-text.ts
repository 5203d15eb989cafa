// YAML to plain data in which every scalar is text: `password: 0123` keeps its zero, a table may be called `null` or `yes`,
// and `${NAME}` can stand for any value. Refuses what YAML only warns about. Messages never quote the file: it holds secrets.
import { type Document, isNode, LineCounter, parseDocument } from "yaml";
import type { KeyPath, Mistake } from "./mistakes.ts";

export interface YamlText {
  /** Mappings, lists, text, and null for a key without a value in a flow mapping. */
  readonly data: unknown;
  readonly mistakes: readonly Mistake[];
  /** The line, from 1, of a key's value or of the nearest mapping around it. */
  readonly lineOf: (path: KeyPath) => number | undefined;
}

/** What can be wrong, by the `yaml` package's codes, in words that quote nothing. */
const PROBLEMS: Readonly<Record<string, string>> = {
  BAD_ALIAS: 'has a * that stands for an alias; every table is written in quotes: "*"',
  BAD_DQ_ESCAPE: "has a backslash that escapes nothing; use single quotes around values with backslashes",
  BAD_INDENT: "is indented wrongly",
  BAD_SCALAR_START: "has a value that starts with a character that YAML reserves; put the value in quotes",
  BLOCK_AS_IMPLICIT_KEY: "has a second colon in one line; put a value with a colon and a space in quotes",
  DUPLICATE_KEY: "has a key twice",
  MISSING_CHAR: "has a quote, bracket or colon that is not closed or missing",
  MULTILINE_IMPLICIT_KEY: "has a line that is not `key: value`; a space belongs after the colon",
  MULTIPLE_DOCS: "holds more than one document; remove the ---",
  TAB_AS_INDENT: "is indented with tabs; use spaces",
  TAG_RESOLVE_FAILED: "has a value that starts with an exclamation mark; put the value in quotes",
};

/** Reads one YAML document. Never throws: what cannot be read is a mistake. */
export function readYaml(text: string): YamlText {
  const lineCounter = new LineCounter();
  try {
    const document = parseDocument(text, {
      schema: "failsafe",
      merge: true,
      prettyErrors: false,
      logLevel: "error",
      lineCounter,
    });
    const problems = [...document.errors, ...document.warnings];
    if (problems.length > 0) {
      const mistakes = problems.slice(0, 1).map((problem): Mistake => {
        const line = lineCounter.linePos(problem.pos[0]).line;
        return { path: [], text: `at line ${line} ${describeProblem(problem.code, text.split("\n")[line - 1] ?? "")}` };
      });
      return { data: undefined, mistakes, lineOf: () => undefined };
    }
    const data: unknown = document.toJS({ maxAliasCount: 100 });
    return { data, mistakes: [], lineOf: (path) => lineOf(document, lineCounter, path) };
  } catch (error) {
    // Too many aliases, or nesting so deep that the parser's stack ends: the only ways the package throws.
    const mistake: Mistake = {
      path: [],
      text: `cannot be read as YAML (${error instanceof RangeError ? "too deep" : "aliases"})`,
    };
    return { data: undefined, mistakes: [mistake], lineOf: () => undefined };
  }
}

function describeProblem(code: string, line: string): string {
  // `{ parallel: ${X} }` looks right and is not: inside a flow mapping the variable's { opens another mapping.
  const variable = /[{[].*: *\$\{/.test(line) ? "; inside { } or [ ] a variable belongs in quotes" : "";
  return `${PROBLEMS[code] ?? "is not valid YAML"}${variable}`;
}

function lineOf(document: Document, lineCounter: LineCounter, path: KeyPath): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lineCounter.linePos(node.range[0]).line;
  }
  return undefined;
}
