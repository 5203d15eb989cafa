// A log that counts the errors that go through it: an error is logged once, at the edge of the loop that met it, so this
// is where all of them pass.
import { type ErrorCode, errorPolicies } from "../base/errors.ts";
import type { Log, LogFacts } from "../base/log.ts";

/** The same log; `counts` grows with each warning and error that has a code. */
export function countedLog(log: Log, counts: Map<ErrorCode, number>, inherited: LogFacts = {}): Log {
  const counted =
    (level: "warn" | "error") =>
    (message: string, facts?: LogFacts): void => {
      const code = facts?.code ?? inherited.code;
      if (isErrorCode(code)) counts.set(code, (counts.get(code) ?? 0) + 1);
      log[level](message, facts);
    };
  return {
    debug: (message, facts) => log.debug(message, facts),
    info: (message, facts) => log.info(message, facts),
    warn: counted("warn"),
    error: counted("error"),
    child: (facts) => countedLog(log.child(facts), counts, { ...inherited, ...facts }),
  };
}

function isErrorCode(code: LogFacts[string]): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(errorPolicies, code);
}
