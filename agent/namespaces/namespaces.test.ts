import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { createTestNetwork, type TestNetwork } from '../../tests/kit/netns.ts';
import { parseCidr } from '../capture/cidr.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import type { DeclaredNamespace } from './namespace-source.ts';
import { Namespaces, type NamespacesChange } from './namespaces.ts';

const POOL = ['10.8.0.0/24', 'fd08::/64'].map(parseCidr);
const GATEWAY = '10.8.0.1';

let network: TestNetwork;
let one: NetworkNamespace;
let two: NetworkNamespace;
/** What the routes of the host say. */
let routes: Map<string, NetworkNamespace>;
let namespaces: Namespaces;
let changes: number;
let told: NamespacesChange[];

const declare = (name: string, change: Partial<DeclaredNamespace> = {}): DeclaredNamespace => ({
  name,
  label: 'pods',
  path: '',
  addresses: [],
  routedIn: POOL,
  ...change,
});
const NAMED = declare('named', { label: 'named', addresses: ['10.8.0.9'], routedIn: [] });

beforeAll(async () => {
  network = await createTestNetwork(2);
  const open = (index: number): NetworkNamespace =>
    NetworkNamespace.open(`pods/${index}`, `/run/netns/${network.hosts[index]!.name}`);
  [one, two] = [open(0), open(1)];
});
afterAll(async () => {
  for (const each of [one, two]) each[Symbol.dispose]();
  await network.remove();
});

beforeEach(() => {
  routes = new Map();
  changes = 0;
  namespaces = new Namespaces({
    source: { list: () => [NAMED] },
    routedIn: POOL,
    findRouted: (asked) => new Map([...routes].filter(([, each]) => asked.includes(each))),
    isOwnAddress: (address) => address === GATEWAY,
  });
  told = [];
  namespaces.watch((change) => {
    changes++;
    told.push(change);
  });
});

const at = (address: string): unknown => {
  const found = namespaces.findAt(address);
  return found?.kind === 'captured' ? found.namespace : found?.kind;
};

describe('Namespaces', () => {
  test('keep the whole network of pods closed but for addresses that routes lead to, and those of the host', () => {
    expect([at('10.8.0.2'), at('fd08::2'), at(GATEWAY)]).toEqual(['closed', 'closed', undefined]);
    expect([at('10.8.1.2'), at('fe80::1%eth0')]).toEqual([undefined, undefined]);
    routes.set('10.8.0.2', one);
    namespaces.add(one, declare('pods/0'));
    expect([at('10.8.0.2'), at('10.8.0.3'), at(GATEWAY)]).toEqual([one, 'closed', undefined]);
    expect(namespaces.addressesOf(one)).toEqual(['10.8.0.2']);
    namespaces.remove(one);
    expect([at('10.8.0.2'), changes, namespaces.addresses()]).toEqual(['closed', 2, ['10.8.0.9']]);
  });

  test('follow the routes, and tell nobody of what changes nothing', () => {
    namespaces.add(one, declare('pods/0'));
    namespaces.add(two, declare('pods/1'));
    routes.set('10.8.0.2', one);
    namespaces.followRoutes();
    namespaces.followRoutes();
    expect([at('10.8.0.2'), changes]).toEqual([one, 1]);
    routes.set('10.8.0.2', two);
    namespaces.followRoutes();
    expect([at('10.8.0.2'), changes]).toEqual([two, 2]);
    routes.clear();
    namespaces.followRoutes();
    expect([at('10.8.0.2'), changes]).toEqual(['closed', 3]);
    expect(told).toEqual([
      { isLoss: false, gained: ['10.8.0.2'] },
      { isLoss: true, gained: ['10.8.0.2'] },
      { isLoss: true, gained: [] },
    ]);
  });

  test('take by a route no address of the host, of a named namespace, of another network, or that many have', () => {
    const many = [parseCidr('169.254.0.0/16'), ...POOL];
    namespaces.add(one, declare('pods/0', { routedIn: many }));
    for (const address of [GATEWAY, '10.8.0.9', '10.8.1.2', '169.254.0.2', 'fd08::2'])
      routes.set(address, one);
    namespaces.followRoutes();
    expect(namespaces.addressesOf(one)).toEqual(['fd08::2']);
    expect([at('10.8.0.9'), at('169.254.0.2')]).toEqual(['closed', undefined]);
  });

  test('take of each pattern its own networks alone, and none for a namespace that is named', () => {
    namespaces.add(one, declare('pods/0', { routedIn: [parseCidr('10.8.0.0/28')] }));
    namespaces.add(two, declare('pods/1', { label: 'named', routedIn: [] }));
    routes.set('10.8.0.2', one).set('10.8.0.16', one).set('10.8.0.3', two);
    namespaces.followRoutes();
    expect(['10.8.0.2', '10.8.0.16', '10.8.0.3'].map(at)).toEqual([one, 'closed', 'closed']);
  });

  test('read the routes once, and tell once, of all that come and go together; what went is closed before that', () => {
    const later: (() => void)[] = [];
    let reads = 0;
    const all = new Namespaces({
      source: { list: () => [NAMED] },
      routedIn: POOL,
      findRouted: () => {
        reads++;
        return routes;
      },
      soon: (work) => void later.push(work),
    });
    all.watch((change) => void told.push(change));
    routes.set('10.8.0.2', one).set('10.8.0.3', two);
    all.add(one, declare('pods/0'));
    all.add(two, declare('pods/1'));
    expect([reads, later.length, all.findLabel(one.link)]).toEqual([0, 1, 'pods']);
    later.shift()?.();
    expect([reads, told]).toEqual([1, [{ isLoss: false, gained: ['10.8.0.2', '10.8.0.3'] }]]);
    all.remove(one);
    expect([all.findAt('10.8.0.2'), told.length, later.length]).toEqual([{ kind: 'closed' }, 1, 1]);
    all.remove(two);
    later.shift()?.();
    expect([told.length, told[1], later.length]).toEqual([2, { isLoss: true, gained: [] }, 0]);
  });

  test('know what one is reached at before it is captured, keep it closed until then, and tell nobody of one that never is', async () => {
    routes.set('10.8.0.2', one);
    await namespaces.expect(one, declare('pods/0'));
    expect([at('10.8.0.2'), namespaces.findLabel(one.link), namespaces.addresses()]).toEqual([
      'closed',
      undefined,
      ['10.8.0.9'],
    ]);
    expect([namespaces.addressesOf(one), namespaces.routes()]).toEqual([['10.8.0.2'], [['10.8.0.2', one]]]);
    namespaces.remove(one);
    expect([namespaces.addressesOf(one), told]).toEqual([[], []]);
    await namespaces.expect(one, declare('pods/0'));
    namespaces.add(one, declare('pods/0'));
    expect([at('10.8.0.2'), told]).toEqual([one, [{ isLoss: false, gained: ['10.8.0.2'] }]]);
  });

  test('let wait who expects one until the routes were read with it', async () => {
    const later: (() => void)[] = [];
    const all = new Namespaces({
      source: { list: () => [NAMED] },
      routedIn: POOL,
      findRouted: () => routes,
      soon: (work) => void later.push(work),
    });
    routes.set('10.8.0.2', one).set('10.8.0.3', two);
    const known = [one, two].map(async (each) => {
      await all.expect(each, declare(each.name));
      return all.addressesOf(each);
    });
    expect(later).toHaveLength(1);
    later.shift()?.();
    expect(await Promise.all(known)).toEqual([['10.8.0.2'], ['10.8.0.3']]);
  });

  test('know whose label is whose', () => {
    namespaces.add(one, declare('pods/0'));
    namespaces.add(two, declare('pods/1', { label: 'jails' }));
    expect([one, two].map(({ link }) => namespaces.findLabel(link))).toEqual(['pods', 'jails']);
    namespaces.remove(two);
    expect(namespaces.findLabel(two.link)).toBeUndefined();
  });

  test('give nobody an address whose namespace was retired, before they are told', () => {
    using gone = NetworkNamespace.open('pods/2', `/run/netns/${network.hosts[0]!.name}`);
    routes.set('10.8.0.2', gone);
    namespaces.add(gone, declare('pods/2'));
    expect(at('10.8.0.2')).toBe(gone);
    gone.retire();
    expect(at('10.8.0.2')).toBe('closed');
  });
});
