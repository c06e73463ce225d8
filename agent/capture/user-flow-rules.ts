import { among, CONTINUES } from './nft-expressions.ts';
import type { ResolvedSettings } from './resolved-settings.ts';

/**
 * A packet of a socket that its program has closed has no user any more, though data may still wait in it. So the flows of excluded users are
 * remembered, each for as long as packets come and a while longer than TCP retries.
 */
export function userFlowSets({ users }: ResolvedSettings): string[] {
  if (users.length === 0) return [];
  return FAMILIES.map(
    ({ family, set }) =>
      `\tset ${set} {\n\t\ttypeof ${family} saddr . tcp sport . ${family} daddr . tcp dport\n\t\tsize 65536\n\t\tflags dynamic,timeout\n\t\ttimeout 30m\n\t}`,
  );
}

/** What excluded users send: it is remembered, and passes. */
export function userFlowsOut({ users }: ResolvedSettings): string[] {
  if (users.length === 0) return [];
  return [
    ...FAMILIES.flatMap(({ set, out }) => among('meta skuid', users, `update @${set} { ${out} }`)),
    ...among('meta skuid', users, 'meta l4proto tcp accept'),
    ...FAMILIES.map(({ set, out }) => `${CONTINUES} ${out} @${set} accept`),
  ];
}

/** What answers it. */
export function userFlowsIn({ users }: ResolvedSettings): string[] {
  if (users.length === 0) return [];
  return FAMILIES.map(({ set, back }) => `${CONTINUES} ${back} @${set} accept`);
}

const FAMILIES = (['ip', 'ip6'] as const).map((family) => ({
  family,
  set: `user_flows_${family}`,
  out: `${family} saddr . tcp sport . ${family} daddr . tcp dport`,
  back: `${family} daddr . tcp dport . ${family} saddr . tcp sport`,
}));
