import {
  among,
  amongNetworks,
  ANSWERS,
  CONTINUES,
  inNetwork,
  OPENS,
  RESETS,
  setOf,
} from './nft-expressions.ts';
import type { ResolvedSettings } from './resolved-settings.ts';
import type { OutboundSteering } from './steer-rules.ts';
import { transparentRules } from './transparent-rules.ts';
import { dropForgedSources, udpAnswersIn, udpFlowsOut, undecidedMark } from './udp-rules.ts';
import { userFlowsIn, userFlowsOut } from './user-flow-rules.ts';

/** What stays on this host. `steered` packets were let pass before. */
export function guardLocal({ ports, users, localPorts }: ResolvedSettings): string[] {
  return [
    // Where connection tracking has forgotten a connection, a program is answered from our port, and resets what it does not know: we are to hear of it.
    ...among('tcp dport', [ports.outbound, ports.inbound], `${RESETS} accept`),
    ...among('tcp dport', [ports.outbound, ports.inbound], 'counter reject with tcp reset'),
    ...among('meta skuid', users, 'accept'),
    ...among('tcp dport', localPorts, 'counter reject with tcp reset'),
    // As `dropForeignCalls`: an error of ICMP takes a thousand bytes of what it is about with it.
    'meta nfproto ipv6 meta l4proto != tcp fib saddr type != local counter drop',
    'accept',
  ];
}

/** What leaves this host, and what stays on it, which goes on to the chain of `guardLocal`. */
export function guardOutput(resolved: ResolvedSettings, outbound: OutboundSteering): string[] {
  const { ports, mark, agentUid } = resolved;
  const answersOnAgentPorts = `tcp sport ${setOf([ports.outbound, ports.inbound, ports.mesh])} ${ANSWERS}`;
  return [
    `meta mark ${mark} accept`,
    ...(outbound === 'enclosed' ? [] : transparentRules(resolved).output),
    dropForeignCalls(resolved),
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

/**
 * Over IPv6 anybody may take a source address that is not this host's (IPV6_FREEBIND), and whoever accepts his connection, the agent among them, answers to that address: out of the host, with what he
 * says by choosing it. Not refused, for that would be an answer as well.
 */
function dropForeignCalls({ users }: ResolvedSettings): string {
  const others = users.length === 0 ? '' : `meta skuid != ${setOf(users)} `;
  return `meta nfproto ipv6 ${OPENS} fib daddr type local fib saddr type != local ${others}counter drop`;
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

/** What comes to this host, for whomever on it. */
export function guardInput(resolved: ResolvedSettings): string[] {
  const { ports, mark } = resolved;
  return [
    ...dropUndecided(resolved),
    'iifname "lo" accept',
    // Before whatever the host answers itself: what answers, it would send to whom a pod names.
    ...(resolved.namespaceAddresses.length > 0 ? [dropForgedSources('tcp')] : []),
    ...among('tcp dport', [ports.mesh, ...resolved.inboundPorts], 'accept'),
    `tcp dport ${ports.inbound} ct status dnat accept`,
    ...transparentRules(resolved).input,
    `${CONTINUES} socket mark ${mark} accept`,
    ...userFlowsIn(resolved),
    ...among('tcp sport', resolved.outboundPorts, `${CONTINUES} accept`),
    ...amongNetworks('saddr', resolved.outboundAddresses, `${CONTINUES} accept`),
    ...dhcpAnswers(resolved),
    ...(resolved.namespaceAddresses.length > 0 ? [dropForgedSources('udp')] : []),
    ...udpAnswers([...resolved.allowUdp, ...resolved.resolvers]),
    ...resolverTcpAnswers(resolved),
    ...(resolved.decidesUdp ? udpAnswersIn() : []),
    ...ICMP_IN,
    'counter drop',
  ];
}

/** Nobody comes in: the agent's connections to programs of the namespace are made within it, on loopback. */
export function guardEnclosed(resolved: ResolvedSettings): string[] {
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

/** A DHCP answer to a broadcast or multicast question is no reply to connection tracking. */
function dhcpAnswers({ allowUdp }: ResolvedSettings): string[] {
  const allows = (port: number): boolean => allowUdp.some((allowed) => allowed.port === port);
  return [
    ...(allows(67) ? ['udp sport 67 udp dport 68 accept'] : []),
    ...(allows(547) ? ['ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept'] : []),
  ];
}

const ICMP_ERRORS = 'destination-unreachable, time-exceeded, parameter-problem';
const ICMPV6_ERRORS = `${ICMP_ERRORS}, packet-too-big`;
/** The kernel hands an error the state of the packet that it is about, which is in no table before it has passed all rules. */
const OF_WHAT_PASSED = 'ct state related ct status confirmed';
/** Limited in number and in bytes, because whatever passes can carry data: twenty of 64 KiB in a second would be a way out of the host. */
const ECHO_LIMIT = 'limit rate 20/second burst 20 packets limit rate 4 kbytes/second burst 16 kbytes accept';
const ICMP_BOTH_WAYS = [
  'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept',
  `icmp type { echo-request, echo-reply } ${ECHO_LIMIT}`,
  `icmpv6 type { echo-request, echo-reply } ${ECHO_LIMIT}`,
];
/** Errors go out of what was let pass alone: they take what they are about with them, and go to whom it gives as its source. Nobody else's does the host carry by them. */
const ICMP_OUT = [
  `icmp type { ${ICMP_ERRORS} } ${OF_WHAT_PASSED} accept`,
  `icmpv6 type { ${ICMPV6_ERRORS} } ${OF_WHAT_PASSED} accept`,
  ...ICMP_BOTH_WAYS,
  'icmpv6 type { nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept',
];
const ICMP_IN = [
  `icmp type { ${ICMP_ERRORS} } accept`,
  `icmpv6 type { ${ICMPV6_ERRORS} } accept`,
  ...ICMP_BOTH_WAYS,
  'icmpv6 type { nd-router-advert, mld-listener-query } accept',
];
