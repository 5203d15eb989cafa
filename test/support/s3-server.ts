// A real S3-protocol server with one bucket, in a folder of its own. By default the npm registry's; PG_FLO_S3_SERVER names
// another that scripts/test-s3.ts has installed, as the path of its program.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { type AddressInfo, connect, createServer } from "node:net";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import type { S3StorageConfig } from "../../src/base/storage-config.ts";
import { makeTestFolder } from "./folder.ts";

export interface TestS3Server extends AsyncDisposable {
  readonly endpoint: string;
  readonly port: number;
  readonly bucket: string;
  /** The SDK's own client, to look behind a storage's back. */
  readonly client: S3Client;
  /** False for a server that can neither list nor drop uploads. */
  readonly listsUploads: boolean;
  /** What a process needs to use it; this one has it in its environment too. */
  readonly env: Readonly<Record<string, string>>;
  config(prefix: string, more?: Partial<S3StorageConfig>): S3StorageConfig;
}

const BUCKET = "pg-flo-test";
const START_TIMEOUT_MS = 60_000;

export async function startS3Server(): Promise<TestS3Server> {
  const program = process.env.PG_FLO_S3_SERVER;
  const server = await (program === undefined ? startS3rver() : startProgram(program));
  const endpoint = `http://127.0.0.1:${server.port}`;
  const env = { AWS_ACCESS_KEY_ID: server.key, AWS_SECRET_ACCESS_KEY: server.secret, AWS_REGION: "us-east-1" };
  Object.assign(process.env, env);
  const config = (prefix: string, more: Partial<S3StorageConfig> = {}): S3StorageConfig => ({
    ...{ kind: "s3", bucket: BUCKET, prefix, endpoint, pathStyle: true, checksum: "crc32" },
    ...more,
  });
  const client = new S3Client({ endpoint, forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
  return {
    ...{ endpoint, port: server.port, bucket: BUCKET, client, env, config },
    listsUploads: program !== undefined,
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      await server.stop();
    },
  };
}

interface Started {
  readonly port: number;
  readonly key: string;
  readonly secret: string;
  readonly stop: () => Promise<void>;
}

/** The package has no types. */
type S3rver = new (options: {
  readonly address: string;
  readonly port: number;
  readonly silent: boolean;
  readonly directory: string;
  readonly allowMismatchedSignatures: boolean;
}) => { run(): Promise<AddressInfo>; close(): Promise<void>; readonly httpServer: { closeAllConnections(): void } };

async function startS3rver(): Promise<Started> {
  const folder = await makeTestFolder();
  const Server = createRequire(import.meta.url)("@20minutes/s3rver") as S3rver;
  // It takes the slash behind a bucket's name, which the SDK signs, away before it checks. The stronger servers check.
  const options = { silent: true, directory: folder.path, allowMismatchedSignatures: true };
  const server = new Server({ address: "127.0.0.1", port: 0, ...options });
  const { port } = await server.run();
  const stop = async () => {
    const closed = server.close();
    server.httpServer.closeAllConnections();
    await closed;
    await folder[Symbol.asyncDispose]();
  };
  return { port, key: "S3RVER", secret: "S3RVER", stop };
}

async function startProgram(program: string): Promise<Started> {
  const folder = await makeTestFolder();
  const port = await freePort();
  const keys = { key: "AKIATESTTESTTESTTEST", secret: "test/secret+of/forty=characters/0123456789" };
  const child = await (basename(program) === "weed"
    ? startSeaweed(program, folder.path, port, keys)
    : startVersity(program, folder.path, port, keys));
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text) => (log = `${log}${text}`.slice(-4000)));
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    await folder[Symbol.asyncDispose]();
  };
  for (const deadline = Date.now() + START_TIMEOUT_MS; !(await answers(port)); await sleep(100)) {
    if (child.exitCode === null && Date.now() < deadline) continue;
    await stop();
    throw new Error(`${program} did not start: ${log}`);
  }
  return { port, ...keys, stop };
}

type Keys = { readonly key: string; readonly secret: string };

/** https://github.com/versity/versitygw: objects as files of a folder. */
async function startVersity(program: string, folder: string, port: number, keys: Keys): Promise<ChildProcess> {
  await mkdir(join(folder, "data"));
  const args = ["--access", keys.key, "--secret", keys.secret, "--port", `127.0.0.1:${port}`, "--quiet"];
  return spawn(program, [...args, "posix", join(folder, "data")]);
}

/** https://github.com/seaweedfs/seaweedfs: all its services in one process. */
async function startSeaweed(program: string, folder: string, port: number, keys: Keys): Promise<ChildProcess> {
  const credentials = [{ accessKey: keys.key, secretKey: keys.secret }];
  // Not Admin: that one gets every bucket that it names.
  const actions = ["Read", "Write", "List", "Tagging"].map((action) => `${action}:${BUCKET}`);
  const identities = [{ name: "test", credentials, actions: [...actions, `Admin:${BUCKET}`] }];
  await writeFile(join(folder, "s3.json"), JSON.stringify({ identities }));
  const [master, volume, filer] = [await freePort(), await freePort(), await freePort()];
  const grpc = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const args = ["server", `-dir=${folder}`, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", `-s3.port=${port}`];
  const ports = [
    ...[`-master.port=${master}`, `-volume.port=${volume}`, `-filer.port=${filer}`],
    ...[`-master.port.grpc=${grpc[0]}`, `-volume.port.grpc=${grpc[1]}`, `-filer.port.grpc=${grpc[2]}`],
    ...[`-s3.port.grpc=${grpc[3]}`, `-s3.config=${join(folder, "s3.json")}`],
    ...["-master.volumeSizeLimitMB=256", "-volume.max=50"],
  ];
  return spawn(program, [...args, ...ports], { cwd: folder });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
