import { expect, test } from 'bun:test';
import { connect } from 'node:net';
import { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import { createLog } from '../../../shared/runtime/log.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { steer } from './steer.ts';
import { listenTcp } from '../streams/tcp-stream.ts';

test('steer() ends what was not captured, and tells of it once in ten seconds, however often somebody tries', async () => {
  const clock = new FakeClock();
  const lines: string[] = [];
  const log = createLog({ level: 'info', nowMs: () => 0, write: (line) => void lines.push(line) });
  const refused = new CrowdReport<'refused'>({ event: 'own_listener_refused', clock, log });
  const ports = { outbound: 15_001, inbound: 15_006, mesh: 15_008 };
  const handle = () => Promise.reject(new Error('Nobody was captured'));
  let steered = 0;
  const listener = listenTcp({
    address: '127.0.0.1',
    port: 0,
    onStream: (stream, socket) => {
      steer(stream, socket, { find: () => undefined, handle, ports, mark: 0x5049, refused, clock, log });
      steered += 1;
    },
  });
  try {
    for (let tried = 1; tried <= 50; tried++) {
      const client = connect(listener.port, '127.0.0.1');
      client.on('error', () => undefined);
      await new Promise((resolve) => client.on('close', resolve));
      await waitUntil('it was steered', () => steered === tried);
    }
  } finally {
    listener.stop();
  }
  clock.advance(10_000);
  expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([
    { event: 'own_listener_refused', refused: 1, latest: '127.0.0.1' },
    { event: 'own_listener_refused', refused: 49, latest: '127.0.0.1' },
  ]);
});
