// Keeps secrets out of what people read: logs, errors and status. It works on text, so it also catches what a library says.

const SECRET_NAME = /pass(word|wd|phrase)?$|pwd|secret|token|credential|api_?key/i;
const HIDDEN = "***";

/** True for a name whose value is never shown, such as `password` or `aws_secret_access_key`. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

/**
 * Hides passwords inside a text: `scheme://user:password@host`, and `password=…` as in libpq's strings and URL queries.
 * A text that merely looks like one loses a few letters, which is the better side to err on.
 */
export function maskSecrets(text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]{0,20}:\/\/[^\s:/@]*):\S*@/gi, `$1:${HIDDEN}@`)
    .replace(
      /([\w-]{1,40})(\s{0,9}=\s{0,9})('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&;,]+)/g,
      (whole, name: string, equals: string) => (isSecretName(name) ? `${name}${equals}${HIDDEN}` : whole),
    );
}
