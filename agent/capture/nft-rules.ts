import type { CaptureSettings } from './capture.ts';
import { forwardsUdp, guardForward } from './forward-rules.ts';
import { guardEnclosed, guardInput, guardLocal, guardOutput } from './guard-rules.ts';
import { resolveSettings } from './resolved-settings.ts';
import { steerInbound, steerOutbound, untrackSteered, type OutboundSteering } from './steer-rules.ts';
import { transparentRules } from './transparent-rules.ts';
import { askUdp, udpFlowSets, udpForwardSets, udpOwnerChains } from './udp-rules.ts';
import { userFlowSets } from './user-flow-rules.ts';

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
          ...transparentRules(resolved).chains.map(({ name, head, rules }) => chain(name, head, rules)),
        ]),
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

function chain(name: string, head: string, rules: readonly string[]): string {
  const lines = [...(head === '' ? [] : [head]), ...rules].map((line) => `\t\t${line}\n`);
  return `\tchain ${name} {\n${lines.join('')}\t}`;
}
