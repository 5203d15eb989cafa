// Preloaded into a process: its wall clock jumps by up to a day, forward and back, every few hundred milliseconds, as a
// virtual machine's does that is moved or whose time is set. The monotonic clock and timers stay as they are.
const RealDate = Date;
const DAY_MS = 86_400_000;
const JUMP_EVERY_MS = 300;
let offsetMs = 0;
setInterval(() => {
  offsetMs = (Math.random() * 2 - 1) * DAY_MS;
}, JUMP_EVERY_MS).unref();

globalThis.Date = class extends RealDate {
  constructor(...parts) {
    if (parts.length === 0) super(RealDate.now() + offsetMs);
    else super(...parts);
  }
  static now() {
    return RealDate.now() + offsetMs;
  }
};
