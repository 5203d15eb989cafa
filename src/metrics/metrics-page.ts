// docs/METRICS.md, made from the list of metrics and from the registry. `npm run docs:metrics` writes it; a test fails when
// it is stale.
import { type MetricName, metricList, metricNames } from "./metric-list.ts";
import { prometheusText } from "./prometheus.ts";

const SECTIONS: readonly { readonly title: string; readonly prefixes: readonly string[]; readonly text: string }[] = [
  {
    title: "The worker",
    prefixes: ["pg_flo_worker_", "pg_flo_errors_"],
    text: "Of the process that is asked.",
  },
  {
    title: "Streams",
    prefixes: ["pg_flo_stream_"],
    text:
      "Of the streams that this worker reads (lag, positions, open transactions), or has read since it started " +
      "(counters and histograms). A stream is read by one worker at a time.",
  },
  {
    title: "The source's WAL",
    prefixes: ["pg_flo_source_", "pg_flo_slot_"],
    text: "Of the slots of the streams that this worker reads, looked at every 10 seconds.",
  },
  { title: "The copy", prefixes: ["pg_flo_copy_"], text: "Of this worker." },
  {
    title: "The group",
    prefixes: ["pg_flo_group_"],
    text:
      "Of all workers together, from the metadata: one statement at most every 3 seconds, however often and by whomever " +
      "this is asked. Every worker tells the same: take `max by (group)`, not a sum.",
  },
  {
    title: "Tables",
    prefixes: ["pg_flo_table_", "pg_flo_tables_"],
    text:
      "From the metadata too, and the same at every worker but for the lag, which only the worker tells that reads the " +
      "table's stream. The first 100 tables by their number in the metadata, or as many as `/metrics?tables=N` says: 0 " +
      'to 1000 (in Prometheus: `params: { tables: ["500"] }`). `pg_flo_tables_left_out` tells how many are not there; ' +
      'they are in the sums above, a failed one among them in `pg_flo_group_tables{state="error"}`, and `pg-flo ' +
      "status` has all.",
  },
];

/** The whole page. */
export function metricsPage(): string {
  const own = new Set<string>(metricNames);
  const foreign = prometheusText("app")
    .metrics()
    .filter(({ name }) => !own.has(name));
  return `# Metrics

<!-- Made by npm run docs:metrics from src/metrics/metric-list.ts. -->

\`http: 127.0.0.1:8080\` in the config makes each worker serve

| Path | What |
|---|---|
| \`/metrics\` | this page's figures, as Prometheus reads them |
| \`/healthz\` | 200 while the worker lives, 503 when it hangs: its event loop answers, and it tries its heartbeats. For whoever starts it anew |
| \`/readyz\` | 200 while it streams and copies and the metadata database takes its heartbeats and answers, else 503 with the reason |
| \`/\` | a page with these links |

There is no password and nothing secret: names of tables and figures, no values of rows. GET and HEAD only. Where the
address is one of this machine alone (\`127.0.0.1\`), requests that name another host are refused (421), so that no page
in a browser can read it. Everything is counted as plain numbers on the way and made into text when it is asked for;
nothing is counted for each value of a row. The worker waits for none of it.

Every metric has the label \`group\`. What is not known has no value, rather than 0. [operations.md](operations.md#alerts)
tells which to watch and what to do; \`deploy/\` has a dashboard for Grafana and rules for Prometheus.

${SECTIONS.map(sectionText).join("\n\n")}

## The process

As [prom-client](https://github.com/siimon/prom-client) tells them of every Node.js process; \`process_*\` of open files
and memory only on Linux.

| Metric | What it is |
|---|---|
${foreign.map(({ name, help }) => `| \`${name}\` | ${escapeCell(help)} |`).join("\n")}
`;
}

function sectionText({ title, prefixes, text }: (typeof SECTIONS)[number]): string {
  const names = metricNames.filter((name) => prefixes.some((prefix) => name.startsWith(prefix)));
  return [
    `## ${title}`,
    "",
    ...wrapped(text),
    "",
    "| Metric | Type | Labels | What it is | The question |",
    "|---|---|---|---|---|",
    ...names.map(row),
  ].join("\n");
}

function row(name: MetricName): string {
  const { type, labels, help, question } = metricList[name];
  const named = labels.map((label) => `\`${label}\``).join(", ");
  return `| \`${name}\` | ${type} | ${named} | ${escapeCell(help)} | ${escapeCell(question)} |`;
}

function escapeCell(text: string): string {
  return text.replaceAll("|", "\\|");
}

const LINE_LENGTH = 120;

function wrapped(text: string): string[] {
  const lines: string[] = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length > LINE_LENGTH) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines;
}
