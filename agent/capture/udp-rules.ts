import type { ResolvedSettings } from './resolved-settings.ts';

/** The group of NFLOG at which the agent is asked about UDP. */
export const UDP_LOG_GROUP = 0x5049;

/** Flows that may pass, which the agent fills: what goes out has the user of its socket in its key, what comes back cannot. */
export const UDP_SETS = {
  flows: { ip: 'udp_flows_ip', ip6: 'udp_flows_ip6' },
  answers: { ip: 'udp_answers_ip', ip6: 'udp_answers_ip6' },
} as const;

/** Flows of other namespaces of this host that it may forward, which the agent fills: both ways with the interface that leads to the namespace, by which nobody else's comes. */
export const UDP_FORWARD_SETS = {
  flows: { ip: 'udp_forwards_ip', ip6: 'udp_forwards_ip6' },
  answers: { ip: 'udp_returns_ip', ip6: 'udp_returns_ip6' },
} as const;

const ASKS = 'udp_asks';

/** The most members of each of them; the agent itself keeps to less. */
const MAX_FLOWS = 65_536;
/** Of so many users the questions are counted at once; those of more are dropped. */
const MAX_ASKERS = 4096;
/** How much one user may ask, in datagrams: enough for programs that begin many flows, and little beside what the agent can decide. */
const ASKS_RATE = 'limit rate 200/second burst 400 packets';

type Asking = Pick<ResolvedSettings, 'mark' | 'userRanges'>;

const FAMILIES = ['ip', 'ip6'] as const;

/** Of datagrams on which nobody has decided yet, on their way to nowhere. */
export function undecidedMark(mark: number): number {
  const other = (mark ^ 0x7544_0000) >>> 0;
  return other === 0 ? 1 : other;
}

/** The sets of `UDP_FORWARD_SETS`. */
export function udpForwardSets(): string[] {
  return FAMILIES.flatMap((family) => [
    members(UDP_FORWARD_SETS.flows[family], `iif . ${outOf(family)}`),
    members(UDP_FORWARD_SETS.answers[family], `oif . ${backTo(family)}`),
  ]);
}

/** What of other namespaces' UDP the host forwards. */
export function udpForwardsOut(): string[] {
  return FAMILIES.map((family) => `iif . ${outOf(family)} @${UDP_FORWARD_SETS.flows[family]} accept`);
}

/** What answers it. */
export function udpForwardsBack(): string[] {
  return FAMILIES.map((family) => `oif . ${backTo(family)} @${UDP_FORWARD_SETS.answers[family]} accept`);
}

/**
 * Goes before whatever lets answers pass, or answers: by their addresses and ports alone, root in a namespace of this host could answer in anybody's place, having taken his address there, or have the host answer to anybody. What such namespaces hang
 * on leads to no place but its own, so an answer comes by it only from where the host itself would send by it. Of the host's own cards nothing is asked: where there are two, answers may come by the other one.
 */
export function dropForgedSources(protocols: string): string {
  return `meta l4proto ${protocols} meta iifkind { ${NAMESPACE_LINKS.join(', ')} } fib saddr . iif oif missing counter drop`;
}

/** Kinds of interfaces by which namespaces of a host are connected to it. */
const NAMESPACE_LINKS = ['bridge', 'netkit', 'openvswitch', 'veth'].map((kind) => `"${kind}"`);

/** The sets of `UDP_SETS`. What is in them ends by itself: each member has its own time, which is prolonged by a living agent alone. */
export function udpFlowSets(): string[] {
  return [
    ...FAMILIES.flatMap((family) => [
      members(UDP_SETS.flows[family], `meta skuid . ${outOf(family)}`),
      members(UDP_SETS.answers[family], outOf(family)),
    ]),
    `\tset ${ASKS} {\n\t\ttypeof meta skuid\n\t\tsize ${MAX_ASKERS}\n\t\tflags dynamic,timeout\n\t\ttimeout 1m\n\t}`,
  ];
}

/** What of UDP goes out: flows that may, and of the others, within bounds, what the agent is asked about. The latter is marked; without a socket behind it nothing is. */
export function udpFlowsOut({ mark, userRanges }: Asking): string[] {
  const asks = 'meta l4proto udp fib daddr type unicast';
  const owners = userRanges.flatMap((ranges, at) =>
    ranges.map(
      ({ first, last }) => `${first === last ? first : `${first}-${last}`} : goto ${ownerChain(at)}`,
    ),
  );
  return [
    ...FAMILIES.map((family) => `meta skuid . ${outOf(family)} @${UDP_SETS.flows[family]} accept`),
    ...(owners.length === 0 ? [] : [`${asks} meta skuid vmap { ${owners.join(', ')} }`]),
    `${asks} update @${ASKS} { meta skuid ${ASKS_RATE} } meta mark set ${undecidedMark(mark)} accept`,
  ];
}

/** One chain for each owner of users, who together ask no more than one does: else whoever was given a range of them could ask so much by each. */
export function udpOwnerChains({
  mark,
  userRanges,
}: Asking): readonly { readonly name: string; readonly rules: string[] }[] {
  const rules = [`${ASKS_RATE} meta mark set ${undecidedMark(mark)} accept`, 'counter drop'];
  return userRanges.map((_, at) => ({ name: ownerChain(at), rules }));
}

function ownerChain(at: number): string {
  return `udp_asks_of_${at}`;
}

/**
 * The agent gets a copy of what was marked, and the datagram itself is turned to this host, where it is dropped as it comes in: dropped here, the program would be told, by EPERM, and most
 * give up. Where the agent allows it, it sends its copy.
 */
export function askUdp(mark: number): string[] {
  return [
    `meta mark != ${undecidedMark(mark)} accept`,
    `log group ${UDP_LOG_GROUP} snaplen 65535 queue-threshold 1`,
    'ip daddr set 127.0.0.1 accept',
    'ip6 daddr set ::1 accept',
    'counter drop',
  ];
}

/** What answers them. Connection tracking is not asked: it would let pass what the agent has ended. */
export function udpAnswersIn(): string[] {
  return FAMILIES.map((family) => `${backTo(family)} @${UDP_SETS.answers[family]} accept`);
}

function members(set: string, key: string): string {
  return `\tset ${set} {\n\t\ttypeof ${key}\n\t\tsize ${MAX_FLOWS}\n\t\tflags timeout\n\t}`;
}

function outOf(family: 'ip' | 'ip6'): string {
  return `${family} saddr . udp sport . ${family} daddr . udp dport`;
}

function backTo(family: 'ip' | 'ip6'): string {
  return `${family} daddr . udp dport . ${family} saddr . udp sport`;
}
