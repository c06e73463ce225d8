import { among, amongNetworks, CONTINUES, inNetwork, NOT_LOCAL, OPENS } from './nft-expressions.ts';
import type { ResolvedSettings } from './resolved-settings.ts';

/**
 * What brings this host's own connections to the agent: a redirection by the rules, or programs that run at connect(2). `enclosed`: a redirection, in another namespace of the host
 * into which nothing comes but through the agent.
 */
export type OutboundSteering = 'redirect' | 'programs' | 'enclosed';

/** Registered listeners of this host come before the exclusions of addresses and ports, which were meant for other hosts. */
export function steerOutbound({ ports, mark, ...resolved }: ResolvedSettings): string[] {
  const steer = `meta l4proto tcp redirect to :${ports.outbound}`;
  return [
    'meta l4proto != tcp return',
    `${CONTINUES} return`,
    `meta mark ${mark} return`,
    ...among('meta skuid', resolved.users, 'return'),
    ...among('fib daddr type local tcp dport', resolved.localPorts, steer),
    'fib daddr type local return',
    ...among('tcp dport', resolved.outboundPorts, 'return'),
    ...amongNetworks('daddr', resolved.outboundAddresses, 'return'),
    ...resolved.resolvers.map(
      ({ network, port }) => `${inNetwork('daddr', network)} tcp dport ${port} return`,
    ),
    steer,
  ];
}

/** What programs steered is between a program and the agent, on loopback, and needs no tracking: nothing is translated. */
export function untrackSteered({ ports }: ResolvedSettings): string[] {
  return ['dport', 'sport'].map((side) => `oifname "lo" tcp ${side} ${ports.outbound} notrack`);
}

/** Who calls a namespace of this host meets the agent, which is asked for by its original address: nothing is forwarded. */
export function steerInbound({ ports, inboundPorts, namespaceAddresses }: ResolvedSettings): string[] {
  return [
    'iifname "lo" return',
    // An address of the host in a network of its namespaces, such as their gateway, stays the host's.
    ...amongNetworks(
      'daddr',
      namespaceAddresses,
      `${NOT_LOCAL} tcp dport ${ports.mesh} redirect to :${ports.mesh}`,
    ),
    ...amongNetworks('daddr', namespaceAddresses, `${NOT_LOCAL} ${OPENS} redirect to :${ports.inbound}`),
    `${NOT_LOCAL} return`,
    ...among('tcp dport', [ports.mesh, ...inboundPorts], 'return'),
    `${OPENS} redirect to :${ports.inbound}`,
  ];
}
