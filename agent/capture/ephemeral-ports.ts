import { readFileSync } from 'node:fs';

/** From which ports the kernel takes one for what goes out and asks for none, as sysctl has it. */
export interface EphemeralSettings {
  /** `net.ipv4.ip_local_port_range`, for IPv6 too: first and last. */
  readonly range: string;
  /** `net.ipv4.ip_local_reserved_ports`, which are left out: ports and spans of them. */
  readonly reserved: string;
}

/** Reads those of this network namespace. Throws where the kernel does not tell. */
export function readEphemeralSettings(): EphemeralSettings {
  return {
    range: readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'),
    reserved: readFileSync('/proc/sys/net/ipv4/ip_local_reserved_ports', 'utf8'),
  };
}

/** Those of some ports that the kernel may take. */
export function findEphemeralPorts(
  ports: readonly number[],
  { range, reserved }: EphemeralSettings,
): readonly number[] {
  const taken = spanOf(range.trim().split(/\s+/));
  const left = reserved
    .trim()
    .split(',')
    .filter(Boolean)
    .map((each) => spanOf(each.split('-')));
  return ports.filter((port) => taken(port) && !left.some((isLeft) => isLeft(port)));
}

function spanOf([first = '', last = first]: readonly string[]): (port: number) => boolean {
  return (port) => port >= Number(first) && port <= Number(last);
}
