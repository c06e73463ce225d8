import { formatCidr, type Cidr } from './cidr.ts';

/** The packet that opens a TCP connection; without one there is no connection. */
export const OPENS = 'tcp flags & (fin | syn | rst | ack) == syn';
/** Every other packet of a TCP connection. */
export const CONTINUES = 'tcp flags & (fin | syn | rst | ack) != syn';
/** A packet that ends a TCP connection at once. */
export const RESETS = 'tcp flags & (fin | syn | rst) == rst';
/** The packet by which a TCP connection is accepted. */
export const ANSWERS = 'tcp flags & (syn | ack) == (syn | ack)';

/** What is not for an address of this host, in the network namespace of the rules. */
export const NOT_LOCAL = 'fib daddr type != local';

/** One rule for a list of values, none for an empty list: an empty set would be an error, and no set would match everything. */
export function among(match: string, values: readonly number[], action: string): string[] {
  return values.length === 0 ? [] : [`${match} ${setOf(values)} ${action}`];
}

/** The same for networks of both families: one rule for each. */
export function amongNetworks(side: 'saddr' | 'daddr', networks: readonly Cidr[], action: string): string[] {
  return (['ip', 'ip6'] as const).flatMap((family) => {
    const members = networks.filter((network) => network.family === family).map(formatCidr);
    return members.length === 0 ? [] : [`${family} ${side} { ${members.join(', ')} } ${action}`];
  });
}

/** Matches packets by a network, of one family alone. */
export function inNetwork(side: 'saddr' | 'daddr', network: Cidr): string {
  return `${network.family} ${side} ${formatCidr(network)}`;
}

/** An anonymous set; of no values it would be an error. */
export function setOf(values: readonly number[]): string {
  return `{ ${values.join(', ')} }`;
}
