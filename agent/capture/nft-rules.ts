import type { CaptureSettings } from './capture.ts';
import { formatCidr, type Cidr } from './cidr.ts';
import { resolveSettings, type ResolvedSettings } from './resolved-settings.ts';
import { transparentRules } from './transparent-rules.ts';
import {
  askUdp,
  dropForgedAnswers,
  udpAnswersIn,
  udpFlowSets,
  udpFlowsOut,
  udpForwardsBack,
  udpForwardsOut,
  udpForwardSets,
  udpOwnerChains,
  undecidedMark,
} from './udp-rules.ts';

/**
 * What brings this host's own connections to the agent: a redirection by the rules, or programs that run at connect(2). `enclosed`: a redirection, in another namespace of the host
 * into which nothing comes but through the agent.
 */
export type OutboundSteering = 'redirect' | 'programs' | 'enclosed';

/** Everything that capture installs is in this table of the family inet, and nothing of anybody else's. */
export const NFT_TABLE_NAME = 'picket';
export const NFT_TABLE = `inet ${NFT_TABLE_NAME}`;

/**
 * The rules as a script for `nft -f`, which loads it in one transaction and replaces what was there. Two halves:
 *
 * The `steer` chains redirect the first packet of a TCP connection to the agent; the kernel carries the rest of it along.
 * The `guard` chains look at every packet and drop what is neither steered, the agent's own nor excluded. They keep no memory of
 * their own: a connection that is older than the rules, or that connection tracking gave up, finds nothing that lets it pass. A drop is
 * final in nftables, whatever other tables say, so their order does not matter.
 *
 * The rules need no agent: without one a connection is steered to a port where nobody listens, and refused. Where programs steer what goes out, the guard
 * is the same: whatever got past them is dropped. Throws like `resolveSettings`.
 */
export function renderNftRules(settings: CaptureSettings, outbound: OutboundSteering = 'redirect'): string {
  const resolved = resolveSettings(settings);
  const members = [
    ...userFlowSets(resolved),
    ...(resolved.decidesUdp ? udpFlowSets() : []),
    ...(forwardsUdp(resolved) ? udpForwardSets() : []),
    outbound !== 'programs'
      ? chain('steer_outbound', 'type nat hook output priority -110; policy accept;', steerOutbound(resolved))
      : chain('untrack', 'type filter hook output priority raw; policy accept;', untrackSteered(resolved)),
    ...(outbound === 'enclosed'
      ? []
      : [
          chain(
            'steer_inbound',
            'type nat hook prerouting priority -110; policy accept;',
            steerInbound(resolved),
          ),
        ]),
    ...(outbound === 'enclosed'
      ? []
      : transparentRules(resolved).chains.map(({ name, head, rules }) => chain(name, head, rules))),
    chain('guard_local', '', guardLocal(resolved)),
    chain(
      'guard_output',
      'type filter hook output priority 0; policy drop;',
      guardOutput(resolved, outbound),
    ),
    ...(resolved.decidesUdp ? udpOwnerChains(resolved).map(({ name, rules }) => chain(name, '', rules)) : []),
    ...(resolved.decidesUdp
      ? [chain('ask_udp', 'type route hook output priority 1; policy accept;', askUdp(resolved.mark))]
      : []),
    chain(
      'guard_input',
      'type filter hook input priority 0; policy drop;',
      outbound === 'enclosed' ? guardEnclosed(resolved) : guardInput(resolved),
    ),
    chain('guard_forward', 'type filter hook forward priority 0; policy drop;', guardForward(resolved)),
  ];
  return `table ${NFT_TABLE}\ndelete table ${NFT_TABLE}\ntable ${NFT_TABLE} {\n${members.join('\n')}\n}\n`;
}

/** The packet that opens a TCP connection; without one there is no connection. */
const OPENS = 'tcp flags & (fin | syn | rst | ack) == syn';
const CONTINUES = 'tcp flags & (fin | syn | rst | ack) != syn';
const RESETS = 'tcp flags & (fin | syn | rst) == rst';
const ANSWERS = 'tcp flags & (syn | ack) == (syn | ack)';

const NOT_LOCAL = 'fib daddr type != local';

/** Registered listeners of this host come before the exclusions of addresses and ports, which were meant for other hosts. */
function steerOutbound({ ports, mark, ...resolved }: ResolvedSettings): string[] {
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
function untrackSteered({ ports }: ResolvedSettings): string[] {
  return ['dport', 'sport'].map((side) => `oifname "lo" tcp ${side} ${ports.outbound} notrack`);
}

/** Who calls a namespace of this host meets the agent, which is asked for by its original address: nothing is forwarded. */
function steerInbound({ ports, inboundPorts, namespaceAddresses }: ResolvedSettings): string[] {
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

/** What stays on this host. `steered` packets were let pass before. */
function guardLocal({ ports, users, localPorts }: ResolvedSettings): string[] {
  return [
    // Where connection tracking has forgotten a connection, a program is answered from our port, and resets what it does not know: we are to hear of it.
    ...among('tcp dport', [ports.outbound, ports.inbound], `${RESETS} accept`),
    ...among('tcp dport', [ports.outbound, ports.inbound], 'counter reject with tcp reset'),
    ...among('meta skuid', users, 'accept'),
    ...among('tcp dport', localPorts, 'counter reject with tcp reset'),
    'accept',
  ];
}

function guardOutput(resolved: ResolvedSettings, outbound: OutboundSteering): string[] {
  const { ports, mark, agentUid } = resolved;
  const answersOnAgentPorts = `tcp sport ${setOf([ports.outbound, ports.inbound, ports.mesh])} ${ANSWERS}`;
  return [
    `meta mark ${mark} accept`,
    ...(outbound === 'enclosed' ? [] : transparentRules(resolved).output),
    // While the agent is down anybody could listen on its ports: only the agent's user may answer there. An answer that belongs to no
    // socket is a SYN cookie; it passes by the mark of the agent's listener alone, since a full queue is easily made.
    // In another namespace root may be anybody: there the agent's listener has the mark.
    ...(outbound === 'enclosed' ? [] : [`${answersOnAgentPorts} meta skuid ${agentUid} accept`]),
    `${answersOnAgentPorts} counter drop`,
    `tcp sport ${ports.mesh} ${CONTINUES} accept`,
    ...(outbound === 'programs' ? steered(ports) : redirected(ports)),
    'fib daddr type local goto guard_local',
    ...among('tcp sport', resolved.inboundPorts, `${CONTINUES} accept`),
    ...userFlowsOut(resolved),
    ...among('tcp dport', resolved.outboundPorts, 'accept'),
    ...amongNetworks('daddr', resolved.outboundAddresses, 'meta l4proto tcp accept'),
    ...resolved.allowUdp.map(
      ({ network, port }) => `${inNetwork('daddr', network)} udp dport ${port} accept`,
    ),
    ...resolved.resolvers.map(
      ({ network, port }) =>
        `${inNetwork('daddr', network)} meta l4proto { tcp, udp } th dport ${port} accept`,
    ),
    ...ICMP_OUT,
    'meta l4proto tcp counter reject with tcp reset',
    ...(resolved.decidesUdp ? udpFlowsOut(resolved) : []),
    'counter drop',
  ];
}

function redirected(ports: ResolvedSettings['ports']): string[] {
  return [
    `tcp sport ${setOf([ports.outbound, ports.inbound])} ct status dnat accept`,
    `tcp dport ${ports.outbound} ct status dnat fib daddr type local accept`,
  ];
}

/** Nothing tells a steered connection from one that somebody made to the agent's port himself: the agent does, which finds no record of it. */
function steered(ports: ResolvedSettings['ports']): string[] {
  return [
    `tcp sport ${ports.inbound} ct status dnat accept`,
    `oifname "lo" tcp dport ${ports.outbound} accept`,
    // While the agent is away anybody can take its port: what opens a connection from there is no answer of the agent.
    `oifname "lo" tcp sport ${ports.outbound} ${CONTINUES} accept`,
  ];
}

function guardInput(resolved: ResolvedSettings): string[] {
  const { ports, mark } = resolved;
  return [
    ...dropUndecided(resolved),
    'iifname "lo" accept',
    ...among('tcp dport', [ports.mesh, ...resolved.inboundPorts], 'accept'),
    `tcp dport ${ports.inbound} ct status dnat accept`,
    ...transparentRules(resolved).input,
    `${CONTINUES} socket mark ${mark} accept`,
    ...userFlowsIn(resolved),
    ...among('tcp sport', resolved.outboundPorts, `${CONTINUES} accept`),
    ...amongNetworks('saddr', resolved.outboundAddresses, `${CONTINUES} accept`),
    ...dhcpAnswers(resolved),
    ...(resolved.namespaceAddresses.length > 0 ? [dropForgedAnswers('udp')] : []),
    ...udpAnswers([...resolved.allowUdp, ...resolved.resolvers]),
    ...resolverTcpAnswers(resolved),
    ...(resolved.decidesUdp ? udpAnswersIn() : []),
    ...ICMP_IN,
    'counter drop',
  ];
}

/** Nobody comes in: the agent's connections to programs of the namespace are made within it, on loopback. */
function guardEnclosed(resolved: ResolvedSettings): string[] {
  return [
    ...dropUndecided(resolved),
    'iifname "lo" accept',
    ...udpAnswers([...resolved.allowUdp, ...resolved.resolvers]),
    ...resolverTcpAnswers(resolved),
    ...(resolved.decidesUdp ? udpAnswersIn() : []),
    ...ICMP_IN,
    'counter drop',
  ];
}

/** What the agent was asked about has been turned to here, and goes no further. */
function dropUndecided({ decidesUdp, mark }: ResolvedSettings): string[] {
  return decidesUdp ? [`meta mark ${undecidedMark(mark)} counter drop`] : [];
}

function forwardsUdp({ decidesUdp, namespaceAddresses }: ResolvedSettings): boolean {
  return decidesUdp && namespaceAddresses.length > 0;
}

function udpAnswers(allowUdp: ResolvedSettings['allowUdp']): string[] {
  return allowUdp.map(
    ({ network, port }) => `${inNetwork('saddr', network)} udp sport ${port} ct direction reply accept`,
  );
}

function resolverTcpAnswers({ resolvers }: ResolvedSettings): string[] {
  return resolvers.map(
    ({ network, port }) => `${inNetwork('saddr', network)} tcp sport ${port} ${CONTINUES} accept`,
  );
}

/** Of what other namespaces of this host send, the UDP that may leave is let through, and what is for a resolver, and nothing else. */
function guardForward(resolved: ResolvedSettings): string[] {
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
    ...(namespaceAddresses.length > 0 ? [dropForgedAnswers('{ tcp, udp }')] : []),
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

/** Of a connection, or UDP, that was begun to there: the host may translate that, as it does for the resolver of a cluster. */
function wasFor({ network, port }: ResolvedSettings['resolvers'][number]): string {
  return `meta l4proto { tcp, udp } ct original ${inNetwork('daddr', network)} ct original proto-dst ${port}`;
}

/**
 * A packet of a socket that its program has closed has no user any more, though data may still wait in it. So the flows of excluded users are
 * remembered, each for as long as packets come and a while longer than TCP retries.
 */
function userFlowSets({ users }: ResolvedSettings): string[] {
  if (users.length === 0) return [];
  return FAMILIES.map(
    ({ family, set }) =>
      `\tset ${set} {\n\t\ttypeof ${family} saddr . tcp sport . ${family} daddr . tcp dport\n\t\tsize 65536\n\t\tflags dynamic,timeout\n\t\ttimeout 30m\n\t}`,
  );
}

function userFlowsOut({ users }: ResolvedSettings): string[] {
  if (users.length === 0) return [];
  return [
    ...FAMILIES.flatMap(({ set, out }) => among('meta skuid', users, `update @${set} { ${out} }`)),
    ...among('meta skuid', users, 'meta l4proto tcp accept'),
    ...FAMILIES.map(({ set, out }) => `${CONTINUES} ${out} @${set} accept`),
  ];
}

function userFlowsIn({ users }: ResolvedSettings): string[] {
  if (users.length === 0) return [];
  return FAMILIES.map(({ set, back }) => `${CONTINUES} ${back} @${set} accept`);
}

const FAMILIES = (['ip', 'ip6'] as const).map((family) => ({
  family,
  set: `user_flows_${family}`,
  out: `${family} saddr . tcp sport . ${family} daddr . tcp dport`,
  back: `${family} daddr . tcp dport . ${family} saddr . tcp sport`,
}));

/** A DHCP answer to a broadcast or multicast question is no reply to connection tracking. */
function dhcpAnswers({ allowUdp }: ResolvedSettings): string[] {
  const allows = (port: number): boolean => allowUdp.some((allowed) => allowed.port === port);
  return [
    ...(allows(67) ? ['udp sport 67 udp dport 68 accept'] : []),
    ...(allows(547) ? ['ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept'] : []),
  ];
}

/** Errors, neighbour discovery and echo; echo is limited, because whatever passes can carry data. */
const ICMP_ERRORS = 'destination-unreachable, time-exceeded, parameter-problem';
const ECHO_LIMIT = 'limit rate 20/second burst 20 packets accept';
const ICMP_BOTH_WAYS = [
  `icmp type { ${ICMP_ERRORS} } accept`,
  `icmpv6 type { ${ICMP_ERRORS}, packet-too-big, nd-neighbor-solicit, nd-neighbor-advert } accept`,
  `icmp type { echo-request, echo-reply } ${ECHO_LIMIT}`,
  `icmpv6 type { echo-request, echo-reply } ${ECHO_LIMIT}`,
];
const ICMP_OUT = [
  ...ICMP_BOTH_WAYS,
  'icmpv6 type { nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept',
];
const ICMP_IN = [...ICMP_BOTH_WAYS, 'icmpv6 type { nd-router-advert, mld-listener-query } accept'];

function chain(name: string, head: string, rules: readonly string[]): string {
  const lines = [...(head === '' ? [] : [head]), ...rules].map((line) => `\t\t${line}\n`);
  return `\tchain ${name} {\n${lines.join('')}\t}`;
}

/** One rule for a list of values, none for an empty list: an empty set would be an error, and no set would match everything. */
function among(match: string, values: readonly number[], action: string): string[] {
  return values.length === 0 ? [] : [`${match} ${setOf(values)} ${action}`];
}

function amongNetworks(side: 'saddr' | 'daddr', networks: readonly Cidr[], action: string): string[] {
  return (['ip', 'ip6'] as const).flatMap((family) => {
    const members = networks.filter((network) => network.family === family).map(formatCidr);
    return members.length === 0 ? [] : [`${family} ${side} { ${members.join(', ')} } ${action}`];
  });
}

function inNetwork(side: 'saddr' | 'daddr', network: Cidr): string {
  return `${network.family} ${side} ${formatCidr(network)}`;
}

function setOf(values: readonly number[]): string {
  return `{ ${values.join(', ')} }`;
}
