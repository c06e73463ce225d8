import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import { readRulesetGeneration } from '../native/nftables.ts';
import { countElementTransactions } from '../native/nftables-elements.ts';
import type { Capture } from './capture.ts';
import { SAMPLE_SETTINGS } from './contract.ts';
import type { FlowKey } from './datagram-gate.ts';
import { FlowSets, membersOf } from './flow-sets.ts';
import { openEnclosedCapture } from './open-capture.ts';
import { UDP_SETS } from './udp-rules.ts';

let network: TestNetwork;
let host: TestHost;
let namespace: NetworkNamespace;
let capture: Capture;
let sets: FlowSets;

beforeAll(async () => {
  network = await createTestNetwork(1);
  host = network.hosts[0]!;
  namespace = NetworkNamespace.open('host', `/run/netns/${host.name}`);
});

afterAll(async () => {
  namespace[Symbol.dispose]();
  await network.remove();
});

beforeEach(async () => {
  capture = openEnclosedCapture(namespace);
  await capture.apply({ ...SAMPLE_SETTINGS, decidesUdp: true });
  sets = new FlowSets(UDP_SETS, { namespace });
  expect(await capture.isIntact()).toBe(true);
});

function flow(port: number, uid = 1): FlowKey {
  return { uid, source: { address: '10.0.0.1', port }, destination: { address: '10.0.0.2', port: 53 } };
}

function put(...flows: readonly FlowKey[]): void {
  sets.replace(flows.map((each) => ({ was: [], now: membersOf(UDP_SETS, each) })));
}

function prolong(...flows: readonly FlowKey[]): void {
  sets.replace(
    flows.map((each) => {
      const members = membersOf(UDP_SETS, each);
      return { was: members, now: members };
    }),
  );
}

function end(...flows: readonly FlowKey[]): void {
  sets.remove(flows.flatMap((each) => membersOf(UDP_SETS, each)));
}

/** How many generations others have made, as the watch of the rules counts. */
function countOthers(): number {
  return readRulesetGeneration({ namespace }) - countElementTransactions({ namespace });
}

async function elements(
  set: string,
): Promise<readonly { readonly port: number; readonly expires: number }[]> {
  const listed = await host.runOk('nft', '--numeric', 'list', 'set', 'inet', 'picket', set);
  return Array.from(
    listed.matchAll(/10\.0\.0\.1 \. (\d+) [^,}]*?expires (?:(\d+)s)?(?:(\d+)ms)?/g),
    (found) => ({
      port: Number(found[1]),
      expires: Number(found[2] ?? 0) * 1000 + Number(found[3] ?? 0),
    }),
  ).sort((a, b) => a.port - b.port);
}

async function portsOf(set: string): Promise<readonly number[]> {
  return (await elements(set)).map(({ port }) => port);
}

const CHANGES: Readonly<Record<string, () => void>> = {
  'a flow that is there is put in again': () => put(flow(1)),
  'some of several flows are there': () => put(flow(1), flow(2)),
  'a flow is prolonged': () => prolong(flow(1)),
  'a flow is prolonged that has ended': () => prolong(flow(1), flow(2)),
  'two users have one flow between the same ends': () => prolong(flow(3, 1), flow(3, 2)),
  'a flow is ended twice': () => {
    end(flow(1));
    end(flow(1));
  },
};

for (const [what, change] of Object.entries(CHANGES))
  test(`FlowSets makes as many generations as it counts where ${what}`, () => {
    sets.flush();
    put(flow(1));
    const before = countOthers();
    change();
    expect(countOthers()).toBe(before);
  });

for (const [what, change] of Object.entries({
  ...CHANGES,
  'empty sets are emptied': () => sets.flush(),
}))
  test(`NftCapture.isIntact() finds that the rules are gone after ${what}`, async () => {
    put(flow(1));
    change();
    expect(await capture.isIntact()).toBe(true);
    // Counted without having changed anything, it would stand for the change that follows.
    change();
    await host.runOk('nft', 'flush', 'ruleset');
    expect([await capture.isIntact(), await capture.isIntact()]).toEqual([false, false]);
  });

test('FlowSets.replace() gives what was there as much time as what was not', async () => {
  put(flow(1), flow(2), flow(3));
  // nft tells whole seconds.
  await Bun.sleep(1200);
  put(flow(1), flow(4));
  prolong(flow(2), flow(5));
  for (const set of [UDP_SETS.flows.ip, UDP_SETS.answers.ip]) {
    const found = new Map((await elements(set)).map(({ port, expires }) => [port, expires]));
    expect([...found.keys()]).toEqual([1, 2, 3, 4, 5]);
    for (const port of [1, 2, 4, 5]) expect(found.get(port)).toBeGreaterThan(found.get(3) ?? Infinity);
  }
});

test('FlowSets.remove() of a flow that has ended leaves all others', async () => {
  put(flow(1), flow(2));
  end(flow(1));
  end(flow(1), flow(3));
  expect(await portsOf(UDP_SETS.answers.ip)).toEqual([2]);
});

test('FlowSets.replace() throws where there are no rules, and remove() does not', async () => {
  await host.runOk('nft', 'flush', 'ruleset');
  const refused: unknown = expect.objectContaining({ code: 'unavailable', reason: 'nftables_elements' });
  expect(() => put(flow(1))).toThrow(refused);
  expect(() => prolong(flow(1))).toThrow(refused);
  expect(() => end(flow(1))).not.toThrow();
});
