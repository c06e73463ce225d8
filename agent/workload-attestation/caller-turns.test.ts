import { expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import type { InNamespace, NetworkNamespace } from '../native/network-namespace.ts';
import type { UdpSocket } from '../native/sock-diag-message.ts';
import { createProcessIdentifier } from './process-identifier.ts';

const NOWHERE = { address: '0.0.0.0', port: 0 };

function rootsSocket(inode: number): UdpSocket {
  const ends = { local: NOWHERE, remote: NOWHERE };
  return { ...ends, uid: 0, inode, cookie: 1n, interfaceIndex: 0, isIpv6: false, isIpv6Only: false };
}

test('createProcessIdentifier() has root of a pod wait for himself, and neither root of the host nor of another pod', async () => {
  const processes = createProcessIdentifier({
    entries: new WatchedValue(new Map()),
    attestors: [],
    // It finds nobody, and takes for ever.
    finder: {
      search: 'proc',
      isImmediate: false,
      find: async () => await new Promise(() => undefined),
      close: () => undefined,
    },
    clock: new FakeClock(),
    log: createLog({ level: 'error', nowMs: () => 0, write: () => undefined }),
  });
  const [pod, other] = [7n, 8n].map((cookie) => ({ cookie }) as NetworkNamespace);
  let inode = 0;
  const isTurnedAway = async (where: InNamespace): Promise<boolean> => {
    inode += 1;
    const asked = processes.identifySender([rootsSocket(inode)], where).then(({ kind }) => kind);
    return (await Promise.race([asked, Bun.sleep(5).then(() => 'waits')])) !== 'waits';
  };
  const asking = Array.from({ length: 128 + 4096 }, async (_, socket) => {
    await processes.identifySender([rootsSocket(socket)], { namespace: pod });
  });
  expect(asking).toHaveLength(4224);
  expect(await isTurnedAway({ namespace: pod })).toBe(true);
  expect(await isTurnedAway({ namespace: other })).toBe(false);
  expect(await isTurnedAway({})).toBe(false);
});
