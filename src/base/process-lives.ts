// Whether a process of this host is there.
import { readFileSync } from "node:fs";

/** Also one of another user; not one that has ended and that its parent did not wait for, as far as the system tells. */
export function processLives(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"; // it lives, and belongs to another user
  }
  return !isZombie(pid);
}

/** By the state in /proc/<pid>/stat (proc_pid_stat(5)), which is behind the name; names may hold spaces and brackets. */
function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return /^\) [ZX]/.test(stat.slice(stat.lastIndexOf(")")));
  } catch {
    return false; // no such file system, or it is gone: then the next look tells
  }
}
