import { formatCidr, type Cidr } from './cidr.ts';
import { inNetwork } from './nft-expressions.ts';
import type { ResolvedSettings } from './resolved-settings.ts';
import { dropForgedSources, udpForwardsBack, udpForwardsOut } from './udp-rules.ts';

/** Of what other namespaces of this host send, the UDP that may leave is let through, and what is for a resolver, and nothing else. */
export function guardForward(resolved: ResolvedSettings): string[] {
  const { allowUdp, resolvers, namespaceAddresses } = resolved;
  const isOwn = (family: Cidr['family'], side: 'saddr' | 'daddr'): string =>
    `${family} ${side} { ${namespaceAddresses
      .filter((each) => each.family === family)
      .map(formatCidr)
      .join(', ')} }`;
  const hasOwn = ({ network }: { readonly network: Cidr }): boolean =>
    namespaceAddresses.some(({ family }) => family === network.family);
  const passes = allowUdp.filter(hasOwn);
  const asked = resolvers.filter(hasOwn);
  return [
    ...passes.map(
      ({ network, port }) =>
        `${isOwn(network.family, 'saddr')} ${inNetwork('daddr', network)} udp dport ${port} accept`,
    ),
    ...asked.map(
      ({ network, port }) => `${isOwn(network.family, 'saddr')} ${wasFor({ network, port })} accept`,
    ),
    ...(forwardsUdp(resolved) ? udpForwardsOut() : []),
    ...(namespaceAddresses.length > 0 ? [dropForgedSources('{ tcp, udp }')] : []),
    ...passes.map(
      ({ network, port }) =>
        `${isOwn(network.family, 'daddr')} ${inNetwork('saddr', network)} udp sport ${port} ct direction reply accept`,
    ),
    ...asked.map(
      ({ network, port }) =>
        `${isOwn(network.family, 'daddr')} ct direction reply ${wasFor({ network, port })} accept`,
    ),
    ...(forwardsUdp(resolved) ? udpForwardsBack() : []),
    'counter drop',
  ];
}

/** Whether the agent decides on UDP of other namespaces, too. */
export function forwardsUdp({ decidesUdp, namespaceAddresses }: ResolvedSettings): boolean {
  return decidesUdp && namespaceAddresses.length > 0;
}

/** Of a connection, or UDP, that was begun to there: the host may translate that, as it does for the resolver of a cluster. */
function wasFor({ network, port }: ResolvedSettings['resolvers'][number]): string {
  return `meta l4proto { tcp, udp } ct original ${inNetwork('daddr', network)} ct original proto-dst ${port}`;
}
