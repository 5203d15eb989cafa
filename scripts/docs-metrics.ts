// Writes docs/METRICS.md from the code.
import { writeFile } from "node:fs/promises";
import { metricsPage } from "../src/metrics/metrics-page.ts";

await writeFile(new URL("../docs/METRICS.md", import.meta.url), metricsPage());
process.exit(0); // the process's own figures keep observers
