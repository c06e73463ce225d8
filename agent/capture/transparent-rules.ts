import { OPENS } from './nft-expressions.ts';
import type { ResolvedSettings } from './resolved-settings.ts';

/** The rules for connections that are made from the caller's address, in the chains to which they belong; none where no listener asks for it. */
export interface TransparentRules {
  /** Whole chains: type and rules, by name. */
  readonly chains: readonly {
    readonly name: string;
    readonly head: string;
    readonly rules: readonly string[];
  }[];
  /** Of `guard_output`, behind the acceptance of the agent's own packets. */
  readonly output: readonly string[];
  /** Of `guard_input`, behind what comes by loopback and what was redirected. */
  readonly input: readonly string[];
}

/** Where the zone is bound to its own addresses. Others translate at 100 (`srcnat`), or about that. */
export const TRANSPARENT_NAT_PRIORITY = -110;

/**
 * An application answers to an address that lies elsewhere, and the routes lead there. So its answers get a mark, by which a routing table of ours takes them to loopback, and to the
 * agent's socket.
 *
 * Both directions have a zone of connection tracking of their own: the caller's host may have a connection from the very port that the kernel chose for ours. Nothing of the zone leaves the host,
 * whatever became of mark, route and rule. Nobody translates its addresses: what Docker masquerades by the source, kube-proxy by a bit of the mark (0x4000, which ours have), would come from an address of
 * the host. Which side connection tracking takes for the one that began is no matter, so that connections outlive its being emptied.
 */
export function transparentRules({ transparent }: ResolvedSettings): TransparentRules {
  const { id, ports } = transparent;
  if (ports.length === 0) return { chains: [], output: [], input: [] };
  const set = `{ ${ports.join(', ')} }`;
  // What connection tracking cannot make sense of has no zone: the end of a connection that it has forgotten. It goes the way of all others, for the kernel has nothing else to send.
  const unknown = `tcp sport ${set} ct state invalid fib daddr type != local`;
  return {
    chains: [
      {
        name: 'zone_transparent',
        head: 'type filter hook output priority raw; policy accept;',
        rules: [
          `tcp dport ${set} fib saddr type != local fib daddr type local ct zone set ${id}`,
          `tcp sport ${set} fib daddr type != local ct zone set ${id}`,
        ],
      },
      {
        name: 'steer_transparent',
        head: 'type route hook output priority mangle; policy accept;',
        rules: [`ct zone ${id} tcp sport ${set} meta mark set ${id}`, `${unknown} meta mark set ${id}`],
      },
      {
        name: 'bind_transparent',
        head: `type nat hook postrouting priority ${TRANSPARENT_NAT_PRIORITY}; policy accept;`,
        // The first chain that translates is the only one, also where it leaves everything as it was.
        rules: [`ct zone ${id} snat ip to ip saddr`, `ct zone ${id} snat ip6 to ip6 saddr`],
      },
      {
        name: 'guard_transparent',
        head: 'type filter hook postrouting priority 0; policy accept;',
        rules: [
          `ct zone ${id} oifname != "lo" counter drop`,
          // What is forwarded is from elsewhere.
          `${unknown} fib saddr type local oifname != "lo" counter drop`,
        ],
      },
    ],
    output: [
      // A program that opens a connection from such a port of its own.
      `ct zone ${id} ${OPENS} counter reject with tcp reset`,
      `ct zone ${id} accept`,
      `${unknown} accept`,
    ],
    // Where accepted sockets take over the mark of what opened them, the next rule would take a forged packet for one of the agent's.
    input: [`tcp dport ${set} counter drop`],
  };
}
