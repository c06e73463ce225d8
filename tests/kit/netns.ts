import { spawnSync } from 'node:child_process';
import { run, runOk } from './child.ts';

/** A host of a test: a network namespace with an interface `eth0` on the network's bridge. */
export interface TestHost {
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
  /** `command` as it is run in this host's network. nsenter replaces itself with the program, so that the pid is the program's. */
  in(...command: string[]): string[];
  /** Runs a program in this host to its end; it must succeed. Its standard output. */
  runOk(...command: string[]): Promise<string>;
}

/** Hosts on one bridge, without any way out. Whoever makes it removes it. */
export interface TestNetwork {
  /** In the order in which they were asked for. */
  readonly hosts: readonly TestHost[];
  /** Where the bridge `br0` stands, with a port for each host: `port1` is the first one's. */
  readonly bridge: Pick<TestHost, 'in' | 'runOk'>;
  /** Takes everything down; programs that still run there keep the namespace alive until they end. */
  remove(): Promise<void>;
}

let networksMade = 0;
const live = new Set<string>();

/** Makes `count` hosts, 10.9.0.1 and fd09::1 being the first one's addresses. Needs root, and says so. */
export async function createTestNetwork(count: number): Promise<TestNetwork> {
  requireRoot('network namespaces');
  const prefix = `pk${process.pid}n${++networksMade}`;
  const bridge = `${prefix}br`;
  const names = Array.from({ length: count }, (_, i) => `${prefix}h${i + 1}`);
  const remove = async (): Promise<void> => {
    for (const name of [...names, bridge]) await removeNamespace(name);
  };
  try {
    for (const name of [bridge, ...names]) await addNamespace(name);
    await runOk(['ip', '-n', bridge, '-batch', '-'], {
      stdin: 'link add br0 type bridge\nlink set br0 up\n',
    });
    for (const [i, name] of names.entries()) await plugIn(bridge, name, i + 1);
  } catch (error) {
    await remove();
    throw error;
  }
  return { hosts: names.map((name, i) => host(name, i + 1)), bridge: insideOf(bridge), remove };
}

/** Throws unless the test runs as root: a test that cannot run must not read as one that passed. */
export function requireRoot(forWhat: string): void {
  if (process.getuid?.() === 0) return;
  throw new Error(`This test needs root for ${forWhat}: run the tests as root`);
}

function host(name: string, number: number): TestHost {
  return {
    name,
    ipv4: `10.9.0.${number}`,
    ipv6: `fd09::${number.toString(16)}`,
    ...insideOf(name),
  };
}

function insideOf(name: string): Pick<TestHost, 'in' | 'runOk'> {
  const inside = (...command: string[]): string[] => ['nsenter', `--net=/run/netns/${name}`, ...command];
  return { in: inside, runOk: async (...command) => await runOk(inside(...command)) };
}

/** Ends the socket that listens at a port, as whoever has CAP_NET_ADMIN there can (SOCK_DESTROY); whoever opened it has it all the same. */
export async function endListener(host: Pick<TestHost, 'runOk'>, port: number): Promise<void> {
  await host.runOk('ss', '--kill', '-Htnl', `sport = :${port}`);
  const left = await host.runOk('ss', '-Htnl', `sport = :${port}`);
  if (left !== '') throw new Error(`Somebody still listens at port ${port}: ${left}`);
}

async function addNamespace(name: string): Promise<void> {
  if (live.size === 0) process.on('exit', removeLeftOvers);
  live.add(name);
  await runOk(['ip', 'netns', 'add', name]);
  await runOk(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
}

async function plugIn(bridge: string, name: string, number: number): Promise<void> {
  const port = `port${number}`;
  await runOk([
    'ip',
    '-n',
    bridge,
    'link',
    'add',
    port,
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'netns',
    name,
  ]);
  await runOk(['ip', '-n', bridge, '-batch', '-'], {
    stdin: `link set ${port} master br0\nlink set ${port} up\n`,
  });
  const lines = [
    `addr add 10.9.0.${number}/24 dev eth0`,
    `addr add fd09::${number.toString(16)}/64 dev eth0 nodad`,
    'link set eth0 up',
  ];
  await runOk(['ip', '-n', name, '-batch', '-'], { stdin: `${lines.join('\n')}\n` });
}

async function removeNamespace(name: string): Promise<void> {
  if (!live.delete(name)) return;
  await run(['ip', 'netns', 'del', name]);
}

/** For a test run that ended before it could clean up. */
function removeLeftOvers(): void {
  for (const name of live) spawnSync('ip', ['netns', 'del', name]);
}
