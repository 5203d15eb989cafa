// Several long-lived things side by side: the first that fails ends the others.

/** Waits for all; the first failure ends the others and is thrown. */
export async function settleAll(services: readonly Promise<void>[], end: AbortController): Promise<void> {
  let failure: unknown = null;
  const guarded = services.map((service) =>
    service.catch((error: unknown) => {
      if (end.signal.aborted && (error === end.signal.reason || isAbort(error))) return;
      failure ??= error;
      end.abort();
    }),
  );
  await Promise.all(guarded);
  if (failure !== null && !isAbort(failure)) throw failure;
}

export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

export function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
