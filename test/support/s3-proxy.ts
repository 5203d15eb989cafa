// A TCP proxy in front of an S3 server that makes trouble: it is slow, it loses requests or replies, it changes bytes.
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** `lose reply`: the server does what it was asked, and the connection breaks off. */
export type Trouble = "none" | "reset" | "lose reply" | "change a byte";

export interface S3ProxyOptions {
  /** Of all connections together, towards the server. */
  readonly bytesPerSecond?: number;
  /** Asked for each request, with its first line. */
  readonly trouble?: (requestLine: string) => Trouble;
}

export interface S3Proxy extends AsyncDisposable {
  readonly endpoint: string;
  /** What went to the server so far. */
  readonly sentBytes: number;
  /** May be changed while it runs. */
  bytesPerSecond: number;
  /** Ends every connection, and refuses new ones until it is true again. */
  setOpen(open: boolean): void;
}

export async function startS3Proxy(port: number, options: S3ProxyOptions): Promise<S3Proxy> {
  const sockets = new Set<Socket>();
  const state = { sentBytes: 0, freeAt: 0, bytesPerSecond: options.bytesPerSecond ?? Number.POSITIVE_INFINITY };
  let open = true;
  const wait = async (byteCount: number): Promise<void> => {
    const now = performance.now();
    state.freeAt = Math.max(now, state.freeAt) + (byteCount / state.bytesPerSecond) * 1000;
    if (state.freeAt > now) await sleep(state.freeAt - now);
  };
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    let trouble: Trouble = "none";
    const end = (): void => {
      client.destroy();
      upstream.destroy();
      sockets.delete(client);
      sockets.delete(upstream);
    };
    for (const socket of [client, upstream]) sockets.add(socket.on("error", end));
    client.on("close", end);
    // What the server said before it closed is still on its way to the client.
    upstream.on("close", () => client.end());
    if (!open) end();
    client.on("data", async (bytes: Buffer) => {
      const line = requestLine(bytes);
      if (line !== null) trouble = options.trouble?.(line) ?? "none";
      if (trouble === "reset") return end();
      if (trouble === "change a byte" && line === null) {
        trouble = "none";
        bytes[bytes.length >> 1]! ^= 1;
      }
      client.pause();
      await wait(bytes.length);
      state.sentBytes += bytes.length;
      if (upstream.destroyed) end();
      else upstream.write(bytes, () => client.resume());
    });
    upstream.on("data", (bytes) => {
      if (trouble === "lose reply") end();
      else client.write(bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port: own } = server.address() as { port: number };
  const endAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    endpoint: `http://127.0.0.1:${own}`,
    get sentBytes() {
      return state.sentBytes;
    },
    get bytesPerSecond() {
      return state.bytesPerSecond;
    },
    set bytesPerSecond(value) {
      state.bytesPerSecond = value;
      state.freeAt = 0;
    },
    setOpen: (value) => {
      open = value;
      if (!open) endAll();
    },
    async [Symbol.asyncDispose]() {
      endAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A request's head begins a piece of its own: the one before it on the connection was answered first. */
function requestLine(bytes: Buffer): string | null {
  const start = bytes.toString("latin1", 0, 1000);
  return /^(?:GET|PUT|POST|DELETE|HEAD) \S+ HTTP/.exec(start)?.[0] ?? null;
}
