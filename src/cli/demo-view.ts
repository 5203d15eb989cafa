// How a demo looks: a line for each step that is done, one that is drawn again meanwhile on a terminal, and the result.
import { basename, relative } from "node:path";
import type { Log } from "../base/log.ts";
import { formatLsn } from "../base/lsn.ts";
import type { DemoEvent, DemoFigures, DemoResult } from "../demo/demo.ts";
import type { TableComparison } from "../verify/compare.ts";
import type { WorkerFigures } from "../worker/worker-figures.ts";
import { type Output, printTable } from "./output.ts";
import { clearingLog, progressLine, RateMeter } from "./progress.ts";
import { formatDuration, formatSize } from "./quantity-text.ts";

const DRAW_INTERVAL_MS = 200;
const CLEAR = "\r\u001b[2K";

export interface DemoViewOptions {
  readonly once: boolean;
  /** Shows nothing. */
  readonly quiet: boolean;
}

export class DemoView {
  readonly #output: Output;
  readonly #options: DemoViewOptions;
  readonly #drawn: boolean;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #rates = new RateMeter();
  #since = performance.now();
  /** What is going on, for the line that is drawn again. */
  #now: () => string = () => "starting PostgreSQL";
  #config = "";
  #following = false;
  #last: DemoFigures | null = null;

  constructor(output: Output, options: DemoViewOptions) {
    this.#output = output;
    this.#options = options;
    this.#drawn = output.isTty && !options.quiet;
    if (this.#drawn) this.#timer = setInterval(() => this.#draw(), DRAW_INTERVAL_MS);
    this.#line("pg-flo demo: a database becomes Parquet files, which stay current while an application works on it\n");
  }

  /** The same log, whose lines do not run into the drawn one. */
  log(log: Log): Log {
    return this.#drawn ? clearingLog(log, () => this.#output.post(CLEAR)) : log;
  }

  show(event: DemoEvent): void {
    switch (event.kind) {
      case "server":
        this.#now = () => "filling the shop";
        this.#done(`PostgreSQL ${event.version} runs in a temporary folder`);
        break;
      case "shop":
        this.#now = () => "preparing";
        this.#done(
          `${event.tables} tables filled with ${number(event.rows)} rows: keys and none, partitions, TOAST, every type`,
        );
        break;
      case "replicating":
        this.#now = () => working(event.figures(), this.#rates);
        this.#config = event.folder.config;
        this.#line("  an application starts to work on them, and pg-flo to replicate");
        break;
      case "copied":
        this.#done(`copied ${number(event.rows)} rows, ${formatSize(event.sizeBytes)}`);
        this.#follow();
        break;
      case "tick":
        this.#tick(event.figures);
        break;
      case "stopping":
        this.#following = false;
        this.#now = () => "the application stops";
        break;
      case "caught up": {
        const { transactions, rolledBack } = event.counts;
        this.#now = () => "comparing";
        this.#done(
          `followed ${number(transactions)} transactions (and ${number(rolledBack)} rolled back), ${number(event.changes)} changes`,
        );
        this.#line(`  application stopped, everything is durable at ${formatLsn(event.position)}`);
        break;
      }
      case "comparing":
        this.#now = () => `comparing ${event.schema}.${event.name}`;
    }
  }

  interrupted(): void {
    const comes = this.#following ? "stopping, then the proof" : "ending early";
    this.#line(`  ${comes}; Ctrl-C once more ends at once`);
  }

  async result(result: DemoResult): Promise<void> {
    const { tables, files, query, folder } = result;
    const rows = tables.reduce((sum, { sourceRows }) => sum + sourceRows, 0);
    this.#done(`compared every row and column of source and files, both ways`);
    this.close();
    await this.#output.write("\n");
    await printTable(this.#output, tables.map(tableRow));
    for (const table of tables) await this.#output.write(differences(table));
    await this.#output.write(
      `\n${result.equal ? `EQUAL: ${tables.length} tables, ${number(rows)} rows` : "NOT EQUAL"}\n`,
    );
    if (query !== null) {
      await this.#output.write(`\nThe mirror, asked with DuckDB:\n\n${query.sql}\n\n`);
      await printTable(this.#output, query.rows);
      await this.#output.write(`(the source ${query.equal ? "says the same" : "SAYS SOMETHING ELSE"})\n`);
    }
    const place = shortPath(folder.path);
    await this.#output.write(`
${number(files.count)} Parquet files, ${formatSize(files.sizeBytes)}, are in ${place}; the server is gone. Any reader opens them:

  duckdb -init ${shortPath(folder.views)}            every table, and its history as <table>__changes
  duckdb -c "select _pg_flo_operation, count(*) from '${place}/demo/shop.orders/stream/**/*.parquet' group by all"
`);
  }

  close(): void {
    clearInterval(this.#timer);
    if (this.#drawn) this.#output.post(CLEAR);
  }

  #follow(): void {
    this.#following = true;
    if (this.#options.once) return;
    const [query, status] = ["query", "status"].map(
      (name) => `${command()} ${name} --config ${shortPath(this.#config)}`,
    );
    this.#line(`  following, until Ctrl-C; meanwhile, in another terminal:\n`);
    this.#line(`    ${status}\n    ${query} "select count(*) from shop.orders"\n`);
  }

  #tick(figures: DemoFigures): void {
    const before = this.#last;
    this.#last = figures;
    if (!this.#following || this.#options.once) return;
    const changes = figures.changes - (before?.changes ?? figures.changes);
    const { count, sizeBytes } = figures.files;
    const text = `${number(changes)} changes/s · ${number(figures.changes)} in all · ${(figures.lagMs / 1000).toFixed(1)} s behind · ${number(count)} files, ${formatSize(sizeBytes)}`;
    if (this.#drawn) this.#now = () => text;
    else this.#line(`  ${text}`);
  }

  #done(text: string): void {
    const took = formatDuration(performance.now() - this.#since);
    this.#since = performance.now();
    this.#line(`✓ ${text} (${took})`);
  }

  #line(text: string): void {
    if (!this.#options.quiet) this.#output.post(`${this.#drawn ? CLEAR : ""}${text}\n`);
  }

  #draw(): void {
    this.#output.post(`${CLEAR}${`  ${this.#now()} …`.slice(0, this.#output.columns - 1)}`);
  }
}

function working(figures: WorkerFigures | null, rates: RateMeter): string {
  return figures ? progressLine(figures, rates) : "checking the server";
}

function tableRow(table: TableComparison): Record<string, string | number> {
  const { schema, name, sourceRows, mirrorRows, changeRows, equal } = table;
  return {
    table: `${schema}.${name}`,
    source: sourceRows,
    mirror: mirrorRows,
    changes: changeRows,
    equal: equal ? "yes" : "NO",
  };
}

/** What differs in one table, with the keys of the first few rows. */
function differences({ schema, name, equal, missing, extra, different, samples, problem }: TableComparison): string {
  if (equal) return "";
  const counts = `${number(missing)} rows missing, ${number(extra)} too many, ${number(different)} different`;
  const lines = samples.map(({ kind, key, columns }) => {
    const values = Object.entries(key).map(([column, value]) => `${column}=${JSON.stringify(value)}`);
    return `  ${kind}: ${values.join(", ")}${columns.length > 0 ? ` (${columns.join(", ")})` : ""}\n`;
  });
  return `\n${schema}.${name}: ${problem ?? counts}\n${lines.join("")}`;
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}

/** As one would type it here. */
function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  const shown = short === "" ? "." : short.startsWith("..") ? path : `./${short}`;
  return /^[\w./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
}

/** How this program was called. Node may be one that npm installed, which the shell does not find by itself. */
function command(): string {
  const script = process.argv[1] ?? "";
  if (basename(script) === "pg-flo") return "pg-flo";
  return `${process.execPath.includes("node_modules") ? "npx node" : "node"} ${shortPath(script)}`;
}
