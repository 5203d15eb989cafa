// Code of our own that a thread or a process runs: a file beside the one that starts it.

/** `name` without its ending, which is .ts in a checkout and .js in the package; `beside` is import.meta.url. */
export function codeFile(name: string, beside: string): URL {
  return new URL(`./${name}${beside.slice(beside.lastIndexOf("."))}`, beside);
}
