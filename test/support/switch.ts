// An address that leads to one server or another, as a DNS name or a virtual address does after a failover.
import { connect, createServer, type Socket } from "node:net";

export interface Switch extends AsyncDisposable {
  readonly port: number;
  /** New connections go there; the ones that are open are cut. */
  to(target: { readonly host: string; readonly port: number }): void;
}

export async function startSwitch(first: { readonly host: string; readonly port: number }): Promise<Switch> {
  let target = first;
  const sockets = new Set<Socket>();
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  const server = createServer((client) => {
    const upstream = connect(target.port, target.host);
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", end).on("close", end);
    }
    client.pipe(upstream).pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as { port: number }).port,
    to: (next) => {
      target = next;
      cut();
    },
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
