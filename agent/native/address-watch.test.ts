import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join } from 'node:path';
import { Child } from '../../tests/kit/child.ts';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';

let network: TestNetwork;
let host: TestHost;
let folder: string;

beforeAll(async () => {
  network = await createTestNetwork(1);
  host = network.hosts[0]!;
  folder = mkdtempSync(join(tmpdir(), 'picket-addresses-'));
});
afterAll(async () => {
  await network.remove();
  rmSync(folder, { recursive: true });
});

test.each([
  ['IPv4', '10.9.0.77/32'],
  ['IPv6', 'fd09::77/128'],
])(
  'watchAddresses() hears of an address of %s that comes and goes, and of nothing after its end',
  async (_, address) => {
    const watcher = new Child({
      command: host.in(process.execPath, join(import.meta.dirname, 'fixtures/watch-addresses.ts')),
      logFile: join(folder, `${address.replaceAll(/\W/g, '-')}.log`),
      isTypedTo: true,
    });
    try {
      await watcher.ready('it watches', () => watcher.log().includes('watching'));
      for (const verb of ['add', 'del']) {
        const before = count(watcher);
        await host.runOk('ip', 'addr', verb, address, 'dev', 'eth0');
        await waitUntil(`${verb} is heard`, () => count(watcher) > before);
      }
      watcher.type('stop\n');
      await waitUntil('it has stopped', () => watcher.log().includes('stopped'));
      const heard = count(watcher);
      await host.runOk('ip', 'addr', 'add', address, 'dev', 'eth0');
      watcher.type('look\n');
      await waitUntil('it has looked', () => watcher.log().includes('looked'));
      expect(count(watcher)).toBe(heard);
      expect(watcher.log()).not.toContain('ended');
    } finally {
      await watcher.stop('SIGKILL');
    }
  },
);

function count(watcher: Child): number {
  return watcher.log().split('changed\n').length - 1;
}
