// A worker's signs of life, for whoever watches it from the same process. Plain numbers, by performance.now().

export interface WorkerHealth {
  /** It streams and copies; false while it starts, and while it waits after an error. */
  running: boolean;
  /** How often that began. */
  sessionCount: number;
  heartbeatTriedAt: number | null;
  /** When the metadata database took the last one. */
  heartbeatAt: number | null;
}

export function noSigns(): WorkerHealth {
  return { running: false, sessionCount: 0, heartbeatTriedAt: null, heartbeatAt: null };
}
