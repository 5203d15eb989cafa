// A TCP proxy in front of a Postgres server that loses COMMITs: the request, or only the reply, and the connection with it.
// What a client cannot tell apart: whether its transaction is there.
import { connect, createServer, type Socket } from "node:net";

export interface LossyProxy extends AsyncDisposable {
  readonly port: number;
  /** How many COMMITs got lost so far, on their way there and on the way back. */
  readonly lost: { readonly requests: number; readonly replies: number };
}

/** `loses` is asked at each COMMIT. */
export async function startLossyProxy(
  target: { readonly host: string; readonly port: number },
  loses: () => "request" | "reply" | null,
): Promise<LossyProxy> {
  const lost = { requests: 0, replies: 0 };
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target.port, target.host);
    let swallow = false;
    const end = (): void => {
      client.destroy();
      upstream.destroy();
      sockets.delete(client);
      sockets.delete(upstream);
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", end).on("close", end);
    }
    client.on("data", (bytes) => {
      const losing = isCommit(bytes) ? loses() : null;
      if (losing === "request") {
        lost.requests++;
        end();
        return;
      }
      if (losing === "reply") {
        lost.replies++;
        swallow = true;
      }
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      if (swallow) end();
      else client.write(bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as { port: number }).port,
    lost,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The simple query `commit`, as a message of its own. */
function isCommit(bytes: Buffer): boolean {
  return bytes.length === 12 && bytes.toString("latin1", 0, 1) === "Q" && bytes.toString("latin1", 5, 11) === "commit";
}
