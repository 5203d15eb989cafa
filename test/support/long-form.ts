// The two forms of the tests: the short one of `npm test`, and the long one (`npm run test:long`, PG_FLO_LONG=1), which takes
// an hour: every version of the server, every failpoint.
import { type PostgresVersion, postgresVersions } from "./postgres.ts";

export const isLongForm = process.env.PG_FLO_LONG === "1";

/** The oldest and the newest server behave most unlike each other. */
const shortVersions: readonly PostgresVersion[] = [14, 18];

/** Those that a test runs on, when every one costs a server and many seconds. */
export const testedVersions: readonly PostgresVersion[] = isLongForm ? postgresVersions : shortVersions;

/** Where versions hardly matter: one of those in the short form, another one each time. */
export const sampledVersions: readonly PostgresVersion[] = isLongForm
  ? postgresVersions
  : [shortVersions[Math.floor(Math.random() * shortVersions.length)]!];

/** All of them in the long form, in the short one so many that are taken at random. */
export function sampleOf<Item>(items: readonly Item[], count: number, random: () => number): readonly Item[] {
  if (isLongForm || items.length <= count) return items;
  const left = [...items.keys()];
  const taken = Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)[0]!);
  return taken.sort((a, b) => a - b).map((index) => items[index]!);
}
