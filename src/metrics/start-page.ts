// The page at `/`: what this is, and where the rest is. No script, nothing from elsewhere.
import { version } from "../base/version.ts";
import type { Verdict } from "./health.ts";
import type { Answer } from "./http-server.ts";

export function startPage(group: string, { ok, reason }: Verdict): Answer {
  const body = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pg-flo ${escapeHtml(group)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; color: #1b1f24; }
code { font-size: 0.95em; }
.state { font-weight: 600; color: ${ok ? "#116329" : "#a40e26"}; }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #e6edf3; }
  a { color: #79c0ff; }
  .state { color: ${ok ? "#56d364" : "#ff7b72"}; }
}
</style>
</head>
<body>
<h1>pg-flo</h1>
<p>Group <code>${escapeHtml(group)}</code>, a worker of version ${escapeHtml(version)}:
<span class="state">${escapeHtml(reason)}</span></p>
<ul>
<li><a href="metrics">/metrics</a>: figures for Prometheus (docs/METRICS.md says what they mean)</li>
<li><a href="healthz">/healthz</a>: whether it lives</li>
<li><a href="readyz">/readyz</a>: whether it works</li>
</ul>
<p>Tables, lag and errors for people: <code>pg-flo status --watch</code></p>
</body>
</html>
`;
  return { status: 200, contentType: "text/html; charset=utf-8", body };
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
