import { run, runOk } from './child.ts';
import type { TestHost } from './netns.ts';

/** A network namespace behind a host of a test, as a pod is: a cable to the host, which is its way to everybody else. */
export interface TestPod extends TestHost {
  /** What mounts it: `/run/netns/NAME`. */
  readonly path: string;
  /** Its processes must have ended, or end it later. */
  remove(): Promise<void>;
}

/** Where the pods of a host have their addresses. */
export interface PodNetwork {
  /** `10.8.N.0/24` and `fd08:N::/64`. */
  readonly number: number;
  readonly host: TestHost;
}

/** The address of a pod before it is there: `last` from 2 on. */
export function podAddresses(
  { number }: Pick<PodNetwork, 'number'>,
  last: number,
): { readonly ipv4: string; readonly ipv6: string } {
  return { ipv4: `10.8.${number}.${last}`, ipv6: `fd08:${number}::${last}` };
}

/** Makes a pod, as many container networks do: a veth pair, the host as its only neighbour. */
export async function createPod(
  name: string,
  { network, last }: { readonly network: PodNetwork; readonly last: number },
): Promise<TestPod> {
  const { host } = network;
  const { ipv4, ipv6 } = podAddresses(network, last);
  const gateway = podAddresses(network, 1);
  const port = `pod${last}`;
  await runOk(['ip', 'netns', 'add', name]);
  await host.runOk('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  await host.runOk('ip', 'addr', 'add', `${gateway.ipv4}/32`, 'dev', port);
  await host.runOk('ip', 'addr', 'add', `${gateway.ipv6}/128`, 'dev', port, 'nodad');
  await host.runOk('ip', 'link', 'set', port, 'up');
  const inside = [
    'link set lo up',
    `addr add ${ipv4}/32 dev eth0`,
    `addr add ${ipv6}/128 dev eth0 nodad`,
    'link set eth0 up',
    `route add ${gateway.ipv4}/32 dev eth0 src ${ipv4}`,
    `route add default via ${gateway.ipv4} dev eth0 src ${ipv4}`,
    `-6 route add ${gateway.ipv6}/128 dev eth0 src ${ipv6}`,
    `-6 route add default via ${gateway.ipv6} dev eth0 src ${ipv6}`,
  ];
  for (const line of inside) await runOk(['ip', '-n', name, ...line.split(' ')]);
  await host.runOk('ip', 'route', 'add', `${ipv4}/32`, 'dev', port);
  await host.runOk('ip', '-6', 'route', 'add', `${ipv6}/128`, 'dev', port);
  const within = (...command: string[]): string[] => ['nsenter', `--net=/run/netns/${name}`, ...command];
  return {
    name,
    ipv4,
    ipv6,
    path: `/run/netns/${name}`,
    in: within,
    runOk: async (...command) => await runOk(within(...command)),
    remove: async () => {
      await run(host.in('ip', 'link', 'del', port));
      await run(['ip', 'netns', 'del', name]);
    },
  };
}

/** Lets a host know by which other host the pods are reached. */
export async function routeToPods(from: TestHost, { number, host }: PodNetwork): Promise<void> {
  await from.runOk('ip', 'route', 'add', `10.8.${number}.0/24`, 'via', host.ipv4);
  await from.runOk('ip', '-6', 'route', 'add', `fd08:${number}::/64`, 'via', host.ipv6);
}
