// A TCP proxy in front of a Postgres server that loses COMMITs: the request, or only the reply, and the connection with it.
// What a client cannot tell apart: whether its transaction is there.
import { connect, createServer, type Socket } from "node:net";

export interface LossyProxy extends AsyncDisposable {
  readonly port: number;
  /** Cuts each connection that is open with this probability. Gives how many. */
  cut(share: number): number;
  /** The same without a word: they stay open, and what is sent over them vanishes. */
  swallow(share: number): number;
  /** Connections that come from now on: are served, are ended at once, or hear nothing. */
  answer(how: "as ever" | "refuse" | "silence"): void;
  /** How many COMMITs got lost so far, on their way there and on the way back. */
  readonly lost: { readonly requests: number; readonly replies: number };
}

interface Pair {
  readonly end: () => void;
  swallows: boolean;
}

/** `loses` is asked at each COMMIT, `random` for each connection that may be cut. */
export async function startLossyProxy(
  target: { readonly host: string; readonly port: number },
  loses: () => "request" | "reply" | null = () => null,
  random: () => number = Math.random,
): Promise<LossyProxy> {
  const lost = { requests: 0, replies: 0 };
  const sockets = new Set<Socket>();
  const pairs = new Set<Pair>();
  let answer: "as ever" | "refuse" | "silence" = "as ever";
  const server = createServer((client) => {
    if (answer === "refuse") {
      client.destroy();
      return;
    }
    const upstream = connect(target.port, target.host);
    let swallow = false;
    const end = (): void => {
      client.destroy();
      upstream.destroy();
      sockets.delete(client);
      sockets.delete(upstream);
      pairs.delete(pair);
    };
    const pair: Pair = { end, swallows: answer === "silence" };
    pairs.add(pair);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", end).on("close", end);
    }
    client.on("data", (bytes) => {
      if (pair.swallows) return;
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
      if (pair.swallows) return;
      if (swallow) end();
      else if (!client.write(bytes)) {
        upstream.pause();
        client.once("drain", () => upstream.resume());
      }
    });
  });
  const hit = (share: number, what: (pair: Pair) => void): number => {
    const chosen = [...pairs].filter((pair) => !pair.swallows && random() < share);
    for (const pair of chosen) what(pair);
    return chosen.length;
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as { port: number }).port,
    lost,
    cut: (share) => hit(share, (pair) => pair.end()),
    swallow: (share) =>
      hit(share, (pair) => {
        pair.swallows = true;
      }),
    answer: (how) => {
      answer = how;
    },
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
