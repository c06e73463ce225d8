import { overlaps, parseCidr, type Cidr } from '../capture/cidr.ts';

/** Networks behind a gateway rather than outside (RFC 1918, RFC 6598, RFC 4193). */
export const INSIDE_NETWORKS: readonly Cidr[] = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  'fc00::/7',
].map(parseCidr);

/** Whether some of it is inside. `0.0.0.0/0` has all of IPv4 that is. */
export function isPartlyInside(network: Cidr): boolean {
  return INSIDE_NETWORKS.some((inside) => overlaps(inside, network));
}
