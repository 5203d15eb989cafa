// Asks a person before something is taken away. Only a plain yes is one.
import { createInterface } from "node:readline";

/** True for `y` and `yes`; anything else is a no, the end of the input and Ctrl-C too. */
export function confirm(
  input: NodeJS.ReadableStream,
  output: NodeJS.WritableStream,
  question: string,
): Promise<boolean> {
  const reader = createInterface({ input, output });
  return new Promise((resolve) => {
    reader.once("close", () => resolve(false));
    reader.question(question, (answer) => {
      resolve(/^\s*y(es)?\s*$/i.test(answer));
      reader.close();
    });
  });
}
