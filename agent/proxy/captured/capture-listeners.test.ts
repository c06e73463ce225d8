import { expect, test } from 'bun:test';
import { createLog } from '../../../shared/runtime/log.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { freePort } from '../../../tests/kit/free-port.ts';
import { ListeningSockets } from '../../handover/listening-sockets.ts';
import { CaptureListeners } from './capture-listeners.ts';

test('CaptureListeners.stop() is for good: what comes late for a process that was replaced opens nothing', () => {
  const sockets = new ListeningSockets();
  const listeners = new CaptureListeners({
    ports: { outbound: 0, inbound: 0, mesh: 0 },
    sockets,
    mark: 0,
    clock: new FakeClock(),
    log: createLog({ level: 'error', nowMs: Date.now, write: () => undefined }),
  });
  const way = { find: () => undefined, handle: async () => await Promise.resolve() };
  const port = freePort();
  listeners.open(port, way);
  expect(sockets.list()).toHaveLength(1);
  listeners.stop();
  listeners.open(port, way).stop();
  listeners.open(port, way);
  expect(sockets.list()).toEqual([]);
});
