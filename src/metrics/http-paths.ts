// What the HTTP server answers to. deploy/ is tested against it.
export const httpPaths = { start: "/", metrics: "/metrics", live: "/healthz", ready: "/readyz" } as const;
