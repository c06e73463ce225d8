import { afterAll, beforeAll, expect, test } from 'bun:test';
import { runOk } from '../../tests/kit/child.ts';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import { SAMPLE_SETTINGS } from './contract.ts';
import { NftDatagramGate } from './nft-datagram-gate.ts';
import { renderNftRules } from './nft-rules.ts';

/** As each of so many users in turn, so many datagrams, each from a port of its own. */
const SENDER = `
import os, socket, sys
to, first, users, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
for uid in range(first, first + users):
    os.setresuid(uid, uid, 0)
    for n in range(each):
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # What is dropped without a question, the program is told.
        try: own.sendto(b'question', (to, 9000))
        except PermissionError: pass
        own.close()
    os.setresuid(0, 0, 0)
`;

const RANGE = { owner: 'alice', first: 100_000, last: 165_535 };
/** In another line of the same owner. */
const MORE = { owner: 'alice', first: 300_000, last: 300_000 };
const BOB = { owner: 'bob', first: 400_000, last: 400_099 };

let net: TestNetwork;
let host: TestHost;
let namespace: NetworkNamespace;
let close: () => void;
/** How many were asked about, by user. */
const asked = new Map<number, number>();

beforeAll(async () => {
  net = await createTestNetwork(2);
  [host] = net.hosts as [TestHost];
  const settings = { ...SAMPLE_SETTINGS, decidesUdp: true, userRanges: [RANGE, MORE, BOB] };
  await runOk(host.in('nft', '-f', '-'), { stdin: renderNftRules(settings) });
  namespace = NetworkNamespace.open('host', `/run/netns/${host.name}`);
  close = await new NftDatagramGate({ mark: 1, namespace }).listen({
    onDatagram: ({ uid }) => {
      asked.set(uid, (asked.get(uid) ?? 0) + 1);
      return true;
    },
    onLost: () => undefined,
    onEnd: () => undefined,
  });
});
afterAll(async () => {
  close();
  namespace[Symbol.dispose]();
  await net.remove();
});

async function send(first: number, users: number, each: number): Promise<void> {
  const to = net.hosts[1]?.ipv4 ?? '';
  await host.runOk('/usr/bin/python3', '-c', SENDER, to, `${first}`, `${users}`, `${each}`);
}

function countOf({ first, last }: { readonly first: number; readonly last: number }): number {
  return [...asked].reduce((sum, [uid, count]) => (uid >= first && uid <= last ? sum + count : sum), 0);
}

test('the rules count what all users ask who were given to one as his, and keep nobody else’s from the agent', async () => {
  const begun = performance.now();
  await send(RANGE.first, 200, 20);
  await send(MORE.first, 1, 100);
  await send(BOB.first, 10, 10);
  await send(7001, 10, 10);
  const seconds = (performance.now() - begun) / 1000;
  await waitUntil('the last of them is asked about', () => asked.get(7010) === 10);
  // 400 at once, and 200 in each second.
  expect(countOf(RANGE) + countOf(MORE)).toBeLessThanOrEqual(400 + 200 * seconds);
  expect(countOf(RANGE)).toBeGreaterThanOrEqual(400);
  expect(countOf(BOB)).toBe(100);
  expect(countOf({ first: 7001, last: 7010 })).toBe(100);
});
