import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join } from 'node:path';
import { requireRoot } from '../../tests/kit/netns.ts';
import { findTcpListeners } from '../native/sock-diag.ts';
import { openTestFinder } from './fixtures/open-test-finder.ts';
import { describeHolderFinder } from './holder-finder-contract.ts';

beforeAll(() => requireRoot('programs in the kernel'));

describeHolderFinder('bpf_walk', () => openTestFinder('bpf_walk'));
describeHolderFinder('bpf_iterator', () => openTestFinder('bpf_iterator'));

const children: Bun.Subprocess[] = [];
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
});

test.each(['bpf_walk', 'bpf_iterator'] as const)(
  'find() by %s: a socket with too many descriptors keeps no other from being seen',
  async (search) => {
    const [many, alone] = [await hold('many'), await hold('alone')];
    const finder = openTestFinder(search);
    try {
      const sightings = await finder.find(new Set([many.inode, alone.inode]));
      expect(sightings.get(many.inode)).toEqual({ kind: 'unseen', why: 'limit', pid: null });
      expect(sightings.get(alone.inode)).toMatchObject({ kind: 'seen', holders: [{ pid: alone.pid }] });
    } finally {
      finder.close();
    }
  },
);

async function hold(mode: string): Promise<{ readonly inode: number; readonly pid: number }> {
  const program = join(import.meta.dirname, '../native/fixtures/hold-socket.py');
  const child = Bun.spawn(['/usr/bin/python3', program, mode], { stdin: 'pipe', stdout: 'pipe' });
  children.push(child);
  const { value } = await child.stdout.getReader().read();
  const port = Number.parseInt(Buffer.from(value ?? []).toString(), 10);
  return { inode: findTcpListeners(port)[0]?.inode ?? 0, pid: child.pid };
}
