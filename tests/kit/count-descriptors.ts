import { fstatSync, readdirSync, statSync, type Stats } from 'node:fs';

/**
 * How many descriptors of this process lead to what one of `fds` leads to, these included. All that it has open is no measure: threads of the runtime close what is left of programs and
 * files of before at any time.
 */
export function countDescriptorsTo(...fds: readonly number[]): number {
  const wanted = new Set(fds.map((fd) => nameOf(fstatSync(fd))));
  return readdirSync('/proc/self/fd').filter((fd) => wanted.has(findName(fd) ?? '')).length;
}

function nameOf({ dev, ino }: Stats): string {
  return `${dev} ${ino}`;
}

/** The one by which the list was read is closed. */
function findName(fd: string): string | undefined {
  const found = statSync(`/proc/self/fd/${fd}`, { throwIfNoEntry: false });
  return found && nameOf(found);
}
