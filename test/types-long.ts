// `npm run test:types -- --minutes 30 [--seed 1] [--rows 400]`: rounds of random values of every type through real workers
// until the minutes are over. Ends with 1 at the first value that differs; `--seed` of that round's line repeats it.
import { parseArgs } from "node:util";
import { type PostgresVersion, startPostgres } from "./support/postgres.ts";
import { runTypeRound } from "./support/type-rounds.ts";

// Earlier ones lack what the values are made of: infinite intervals.
const versions: readonly PostgresVersion[] = [18, 17];

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    rows: { type: "string", default: "400" },
  },
});
const numbers = Object.entries(options).map(([name, text]) => [name, Number(text)] as const);
for (const [name, number] of numbers) {
  if (!Number.isFinite(number) || number < 0) {
    console.error(`--${name} is not a number: ${options[name as keyof typeof options]}`);
    process.exit(2);
  }
}
const { minutes, seed, rows } = Object.fromEntries(numbers) as Record<keyof typeof options, number>;
const deadline = Date.now() + minutes * 60_000;
let total = 0;
let round = 0;
do {
  // By the seed, so that the same one goes to the same server.
  const own = seed + round;
  const version = versions[own % versions.length]!;
  console.log(`round ${round + 1}: --seed ${own} --rows ${rows}, PostgreSQL ${version}`);
  await using server = await startPostgres({ version });
  const { values, inexact } = await runTypeRound(server, { seed: own, rowCount: rows });
  console.log(`  ${values} values equal, ${inexact} of them by their exact text`);
  total += values;
  round++;
} while (Date.now() < deadline);
console.log(`${total} values in ${round} rounds came as Postgres has them`);
