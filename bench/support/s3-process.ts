// An S3 server in a process of its own, so that its work is not the benchmark's: tells its address on stdout and lives
// until its stdin ends. PG_FLO_S3_SERVER names another than the default (test/support/s3-server.ts).
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { S3StorageConfig } from "../../src/base/storage-config.ts";
import { startS3Server } from "../../test/support/s3-server.ts";

export interface S3Process extends AsyncDisposable {
  /** A storage for the config, below a prefix. */
  url(prefix: string): string;
  /** The same for this process. */
  config(prefix: string): S3StorageConfig;
}

interface Told {
  readonly endpoint: string;
  readonly bucket: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Starts one; `await using` ends it and removes its files. */
export async function startS3Process(): Promise<S3Process> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = (await Promise.race([
    once(createInterface({ input: child.stdout }), "line"),
    once(child, "exit").then(() => Promise.reject(new Error("the S3 server did not start"))),
  ])) as [string];
  const { endpoint, bucket, env } = JSON.parse(line) as Told;
  Object.assign(process.env, env); // the credentials, for this process and those that it starts
  return {
    config: (prefix) => ({
      kind: "s3",
      bucket,
      prefix,
      endpoint,
      region: "us-east-1",
      pathStyle: true,
      checksum: "crc32",
    }),
    url: (prefix) => `s3://${bucket}/${prefix}?endpoint=${endpoint}&region=us-east-1`,
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await once(child, "exit");
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await using server = await startS3Server();
  const { endpoint, bucket, env } = server;
  console.log(JSON.stringify({ endpoint, bucket, env }));
  await once(process.stdin.resume(), "end");
}
