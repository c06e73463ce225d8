import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { runOk } from '../../tests/kit/child.ts';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { createPod, type PodNetwork, type TestPod } from '../../tests/kit/pods.ts';

const PRINT = join(import.meta.dirname, 'fixtures/print-routed-addresses.ts');

let network: TestNetwork;
let host: TestHost;
let pods: PodNetwork;
let one: TestPod;
let two: TestPod;

beforeAll(async () => {
  network = await createTestNetwork(1);
  host = network.hosts[0]!;
  pods = { number: 1, host };
  one = await createPod(`pk${process.pid}rt1`, { network: pods, last: 2 });
  two = await createPod(`pk${process.pid}rt2`, { network: pods, last: 3 });
});
afterAll(async () => {
  for (const pod of [one, two]) await pod.remove();
  await network.remove();
});

async function find(...those: readonly TestPod[]): Promise<Readonly<Record<string, string>>> {
  const paths = those.map(({ path }) => path);
  return JSON.parse(await host.runOk(process.execPath, PRINT, ...paths)) as Record<string, string>;
}

async function route(verb: 'add' | 'del', ...what: readonly string[]): Promise<void> {
  await host.runOk('ip', ...(what[0]?.includes(':') === true ? ['-6'] : []), 'route', verb, ...what);
}

/** What holds while a route is there. */
async function withRoute(what: readonly string[], look: () => Promise<void>): Promise<void> {
  await route('add', ...what);
  try {
    await look();
  } finally {
    await route('del', ...what);
  }
}

describe('findRoutedAddresses()', () => {
  test('finds the namespaces behind the ends of the pairs that routes of one address lead to, and of none else', async () => {
    const whole = {
      [one.ipv4]: one.path,
      [one.ipv6]: one.path,
      [two.ipv4]: two.path,
      [two.ipv6]: two.path,
    };
    expect(await find(one, two)).toEqual(whole);
    expect(await find(two)).toEqual({ [two.ipv4]: two.path, [two.ipv6]: two.path });
    expect(await find()).toEqual({});
  });

  test.each([
    ['a wider route', ['10.8.1.128/25', 'dev', 'pod2']],
    ['a route by a gateway', ['10.8.1.9/32', 'via', '10.8.1.2', 'dev', 'pod2', 'onlink']],
    ['a route of another table', ['10.8.1.9/32', 'dev', 'pod2', 'table', '77']],
    ['a route to an interface that is no pair', ['10.8.1.9/32', 'dev', 'lo']],
    ['a route that refuses', ['unreachable', '10.8.1.9/32']],
    ['what a neighbour advertises', ['fd08:1::9/128', 'dev', 'pod2', 'proto', 'ra']],
    ['what the kernel makes of an advertised prefix', ['fd08:1::9/128', 'dev', 'pod2', 'proto', 'kernel']],
  ])('goes by no other: %s', async (_, what) => {
    await withRoute(what, async () => {
      expect(Object.keys(await find(one, two))).toHaveLength(4);
    });
  });

  test('finds none for an address that routes lead to in two places', async () => {
    await withRoute([`${two.ipv4}/32`, 'dev', 'pod2', 'metric', '7'], async () => {
      expect(await find(one, two)).not.toContainKey(two.ipv4);
    });
    expect((await find(one, two))[two.ipv4]).toBe(two.path);
  });

  test('goes by nothing that root does within: no address, no route, no end of a pair of his own', async () => {
    const before = await find(one, two);
    for (const line of [
      `addr add ${two.ipv4}/32 dev eth0`,
      `route add ${two.ipv4}/32 dev lo`,
      'link add own0 type veth peer name own1',
      'link set own0 up',
      'link set eth0 down',
    ])
      await runOk(['ip', '-n', one.name, ...line.split(' ')]);
    expect(await find(one, two)).toEqual(before);
  });

  test('does not follow an end that was taken into a namespace which is not asked for', async () => {
    const other = `pk${process.pid}rt3`;
    await runOk(['ip', 'netns', 'add', other]);
    try {
      await runOk(['ip', '-n', two.name, 'link', 'set', 'eth0', 'netns', other]);
      expect(Object.values(await find(one, two))).not.toContain(two.path);
    } finally {
      await runOk(['ip', 'netns', 'del', other]);
    }
  });
});
