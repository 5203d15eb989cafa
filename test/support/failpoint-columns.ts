// A column that comes in the middle of a transaction, at a worker that is killed at a failpoint.
import type { Client } from "pg";
import type { Failpoint } from "../../src/base/failpoints.ts";
import type { FailpointRun } from "./failpoint-run.ts";
import { write } from "./killed-tables.ts";

interface AlteredScene {
  readonly run: FailpointRun;
  readonly client: Client;
  readonly name: Failpoint;
}

export async function columnAdded({ run, client, name }: AlteredScene, step: number): Promise<void> {
  await client.query(`begin; insert into wide values (${100_000 + step}, 'older'); alter table wide add column c${step} int default 7;
    update wide set c${step} = 8 where a = 5; commit`);
  await write(client, step);
  await run.killedAt(name);
}
