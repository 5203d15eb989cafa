// The registry and the text that Prometheus reads. The only file that knows prom-client.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { type MetricName, metricList, metricNames } from "./metric-list.ts";
import type { Reading } from "./readings.ts";

/** Of the event loop's delay: each look is a timer. */
const EVENT_LOOP_PRECISION_MS = 50;

/** Of the process's own: gauges that are called totals, and what says the same as nodejs_active_resources. */
const unwanted = [
  "nodejs_active_resources_total",
  "nodejs_active_handles",
  "nodejs_active_handles_total",
  "nodejs_active_requests",
  "nodejs_active_requests_total",
];

export interface PrometheusText {
  readonly contentType: string;
  /** The readings, those of the call before forgotten, and the process's own figures. One call at a time. */
  write(readings: readonly Reading[]): Promise<string>;
  /** Every metric that is registered, the process's own included. */
  metrics(): readonly { readonly name: string; readonly help: string }[];
}

/** A registry of its own: nothing is shared with other uses of the library in this process. */
export function prometheusText(group: string): PrometheusText {
  const registry = new Registry();
  registry.setDefaultLabels({ group });
  const shown = new Map(metricNames.map((name) => [name, registered(name, registry)]));
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS });
  for (const name of unwanted) registry.removeSingleMetric(name);
  return {
    contentType: registry.contentType,
    write: (readings) => {
      for (const metric of shown.values()) metric.clear();
      for (const reading of readings) shown.get(reading.name)!.show(reading);
      return registry.metrics();
    },
    metrics: () => registry.getMetricsAsArray().map(({ name, help }) => ({ name, help })),
  };
}

interface Shown {
  clear(): void;
  show(reading: Reading): void;
}

function registered(name: MetricName, registry: Registry): Shown {
  const { type, help, labels } = metricList[name];
  const options = { name, help, labelNames: labels, registers: [registry] };
  if (type === "histogram") return new CountedSizes(options);
  const metric = type === "counter" ? new Counter(options) : new Gauge(options);
  return {
    clear: () => {
      metric.reset();
      metric.remove({}); // of one without labels `reset` leaves a 0, and what is not known is not 0
    },
    show: ({ labels: given, value }) => metric.inc(given, value as number),
  };
}

interface HistogramValue {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** A histogram whose sizes were counted elsewhere: the library's own would have to be told of each one. */
class CountedSizes extends Histogram implements Shown {
  readonly #name: string;
  readonly #help: string;
  #values: HistogramValue[] = [];

  constructor(options: ConstructorParameters<typeof Histogram>[0]) {
    super(options);
    this.#name = options.name;
    this.#help = options.help;
  }

  clear(): void {
    this.#values = [];
  }

  show({ labels, value }: Reading): void {
    const { sizes, unit } = value as Exclude<Reading["value"], number>;
    let count = 0;
    for (const [index, own] of sizes.counts.entries()) {
      count += own;
      const le = sizes.bounds[index] === undefined ? "+Inf" : String(sizes.bounds[index] * unit);
      this.#values.push({ metricName: `${this.#name}_bucket`, labels: { ...labels, le }, value: count });
    }
    this.#values.push({ metricName: `${this.#name}_sum`, labels, value: sizes.sum * unit });
    this.#values.push({ metricName: `${this.#name}_count`, labels, value: count });
  }

  /** What the registry asks for its text, before `get`: lib/registry.js. */
  async getForPromString() {
    return { name: this.#name, help: this.#help, type: "histogram", values: this.#values, aggregator: "sum" };
  }
}
