import { afterAll, beforeAll, expect, test } from 'bun:test';
import { readlinkSync } from 'node:fs';
import { createTestNetwork, type TestNetwork } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { describeWorkloadAttestor } from './contract.ts';
import { NetworkNamespaceAttestor } from './netns.ts';
import { readProcessFacts } from './process-facts.ts';

let network: TestNetwork;
const children: Bun.Subprocess[] = [];

beforeAll(async () => {
  network = await createTestNetwork(2);
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await network.remove();
});

/** A process in the namespace of a host, and what /proc says of that. */
async function sleepIn(index: number): Promise<{ child: Bun.Subprocess; link: string }> {
  const child = Bun.spawn(network.hosts[index]!.in('sleep', '1000'));
  children.push(child);
  const own = readlinkSync('/proc/self/ns/net');
  const link = await waitUntil('it is in its namespace', () => {
    const found = readlinkSync(`/proc/${child.pid}/ns/net`);
    return readProcessFacts(child.pid)?.executablePath?.endsWith('/sleep') === true && found !== own && found;
  });
  return { child, link };
}

describeWorkloadAttestor('netns', async () => {
  const { child, link } = await sleepIn(0);
  const attestor = new NetworkNamespaceAttestor((asked) => (asked === link ? 'pod' : undefined));
  const process = { pid: child.pid, startTime: readProcessFacts(child.pid)?.startTime ?? 0n };
  const end = async (): Promise<void> => {
    child.kill('SIGKILL');
    await child.exited;
  };
  return { attestor, process, end };
});

test('NetworkNamespaceAttestor.attest() names a captured namespace, numbers another one, and says nothing of its own', async () => {
  const [named, other] = [await sleepIn(0), await sleepIn(1)];
  const attestor = new NetworkNamespaceAttestor((link) => (link === named.link ? 'pod' : undefined));
  const attest = async (pid: number): Promise<readonly string[]> =>
    await attestor.attest({ pid, startTime: readProcessFacts(pid)?.startTime ?? 0n });
  const numberOf = (link: string): string => /\d+/.exec(link)?.[0] ?? '';
  expect(await attest(named.child.pid)).toEqual(['netns:name:pod', `netns:inode:${numberOf(named.link)}`]);
  expect(await attest(other.child.pid)).toEqual([`netns:inode:${numberOf(other.link)}`]);
  expect(await attest(process.pid)).toEqual([]);
});
