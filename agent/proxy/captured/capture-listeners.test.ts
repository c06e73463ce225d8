import { afterAll, beforeAll, expect, test } from 'bun:test';
import { createLog } from '../../../shared/runtime/log.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { freePort } from '../../../tests/kit/free-port.ts';
import { createTestNetwork, endListener, type TestNetwork } from '../../../tests/kit/netns.ts';
import { ListeningSockets } from '../../handover/listening-sockets.ts';
import { NetworkNamespace } from '../../native/network-namespace.ts';
import { CaptureListeners } from './capture-listeners.ts';

const WAY = { find: () => undefined, handle: async () => await Promise.resolve() };

let network: TestNetwork;

beforeAll(async () => {
  network = await createTestNetwork(1);
});
afterAll(async () => await network.remove());

function openListeners(sockets: ListeningSockets): CaptureListeners {
  return new CaptureListeners({
    ports: { outbound: 0, inbound: 0, mesh: 0 },
    sockets,
    mark: 0,
    clock: new FakeClock(),
    log: createLog({ level: 'error', nowMs: Date.now, write: () => undefined }),
  });
}

test('CaptureListeners.stop() is for good: what comes late for a process that was replaced opens nothing', () => {
  const sockets = new ListeningSockets();
  const listeners = openListeners(sockets);
  const port = freePort();
  listeners.open(port, WAY);
  expect(sockets.list()).toHaveLength(1);
  listeners.stop();
  listeners.open(port, WAY).stop();
  listeners.open(port, WAY);
  expect(sockets.list()).toEqual([]);
});

test('CaptureListeners.open() is broken where root of another namespace has ended its socket, and not once it is stopped', async () => {
  const [host] = network.hosts;
  using namespace = NetworkNamespace.open('pod', `/run/netns/${host!.name}`);
  const listener = openListeners(new ListeningSockets()).open(15_001, { ...WAY, namespace });
  expect(listener.isBroken).toBe(false);
  await endListener(host!, 15_001);
  expect(listener.isBroken).toBe(true);
  listener.stop();
  expect(listener.isBroken).toBe(false);
});
