// biome-ignore-all lint/suspicious/noTemplateCurlyInString: ${NAME} is the config's own notation
// `${NAME}` in a config's values. It is replaced in parsed text, so a value with quotes or colons cannot change the YAML.
// Inside a URL a variable stands for its literal text: a password needs no percent-encoding.
import { isMapping, type KeyPath, type Mistake } from "./mistakes.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Substituted {
  readonly value: unknown;
  readonly mistakes: readonly Mistake[];
}

const DEPTH_MAX = 20;
const VARIABLE = /\$\$\{|\$\{([^}]*)\}|\$\{/g;

/** Replaces `${NAME}` in every text below `data`; `$${` stands for `${`. Keys stay as they are. */
export function substituteEnvironment(data: unknown, env: Environment): Substituted {
  const mistakes: Mistake[] = [];
  const value = substituteValue(data, [], env, mistakes);
  return { value, mistakes };
}

function substituteValue(value: unknown, path: KeyPath, env: Environment, mistakes: Mistake[]): unknown {
  if (typeof value === "string") return substituteText(value, path, env, mistakes);
  if (typeof value !== "object" || value === null) return value;
  if (path.length >= DEPTH_MAX) {
    mistakes.push({ path: path.slice(0, 3), text: `is nested deeper than ${DEPTH_MAX} levels` });
    return undefined;
  }
  if (!isMapping(value)) {
    return (value as unknown[]).map((item, index) => substituteValue(item, [...path, index], env, mistakes));
  }
  const copy: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    if (key === "__proto__") mistakes.push({ path: [...path, key], text: "is not a possible key" });
    else copy[key] = substituteValue(item, [...path, key], env, mistakes);
  }
  return copy;
}

function substituteText(text: string, path: KeyPath, env: Environment, mistakes: Mistake[]): string {
  if (!text.includes("${")) return text;
  const replace = (part: string, encode: (value: string) => string) =>
    part.replace(VARIABLE, (whole, name: string | undefined) => {
      if (whole === "$${") return "${";
      const problem = variableProblem(name, env);
      if (problem) mistakes.push({ path, text: problem });
      return problem ? "" : encode(env[name!]!);
    });
  const literal = (value: string) => value;
  // user:password@ | host:port | /database?settings. The host part is not encoded, so that ${HOST_AND_REST} works too.
  const url = path.at(-1) === "url" ? /^(postgres(?:ql)?:\/\/)([^/?]*@)?([^/?@]*)(.*)$/s.exec(text) : null;
  if (!url) return replace(text, literal);
  const [, scheme, user = "", host, rest] = url;
  return `${scheme}${replace(user, encodeURIComponent)}${replace(host!, literal)}${replace(rest!, encodeURIComponent)}`;
}

function variableProblem(name: string | undefined, env: Environment): string | undefined {
  if (name === undefined) return "has a ${ that is not closed; a literal ${ is written $${";
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    return "has a variable that is not a name, allowed are letters, digits and _, without a default or an expression";
  }
  return !Object.hasOwn(env, name) || env[name] === undefined
    ? `names \${${name}}, which is not set in the environment`
    : undefined;
}
