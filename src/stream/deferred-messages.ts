// Messages that were received behind the COMMIT of a large transaction: they wait until its rows are in the batch.
// At most what the socket gives at once: as soon as one waits, reading is held back.
import type { Lsn } from "../base/lsn.ts";
import { Arena } from "./arena.ts";

export interface MessageReader {
  data(bytes: Uint8Array, view: DataView, start: number, end: number): void;
  keepalive(walEnd: Lsn): void;
}

type Deferred = { readonly start: number; readonly end: number } | { readonly walEnd: Lsn };

export class DeferredMessages {
  readonly #arena = new Arena(4096);
  #messages: Deferred[] = [];
  #next = 0;

  /** Whether some data waits. A keepalive may be late. */
  get waiting(): boolean {
    return this.#arena.length > 0;
  }

  /**
   * Reads at once, or puts off what comes while `defers`; data that `passes` only waits behind other data. `type`: of the
   * message of pgoutput.
   */
  reader(read: MessageReader, defers: () => boolean, passes: (type: number) => boolean): MessageReader {
    return {
      data: (bytes, view, start, end) => {
        if (!defers() || (!this.waiting && passes(bytes[start]!))) {
          read.data(bytes, view, start, end);
          return;
        }
        const at = this.#arena.append(bytes, start, end);
        this.#messages.push({ start: at, end: at + end - start });
      },
      keepalive: (walEnd) => {
        if (!defers()) return read.keepalive(walEnd);
        // The newest is enough: they may come by the thousand while nothing else does.
        const last = this.#messages.length - 1;
        if (last >= this.#next && "walEnd" in this.#messages[last]!) this.#messages[last] = { walEnd };
        else this.#messages.push({ walEnd });
      },
    };
  }

  /** Hands them over in order, as long as `goesOn`. */
  drain(reader: MessageReader, goesOn: () => boolean): void {
    const { bytes, view } = this.#arena;
    while (this.#next < this.#messages.length && goesOn()) {
      const message = this.#messages[this.#next++]!;
      if ("walEnd" in message) reader.keepalive(message.walEnd);
      else reader.data(bytes, view, message.start, message.end);
    }
    if (this.#next < this.#messages.length) return;
    this.#messages = [];
    this.#next = 0;
    this.#arena.reset();
  }
}
