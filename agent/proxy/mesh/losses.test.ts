import { expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { createLog } from '../../../shared/runtime/log.ts';
import { MeshLosses } from './losses.ts';

test('MeshLosses counts each connection, and tells of all to one host in one line', () => {
  const clock = new FakeClock();
  const lines: string[] = [];
  const broken: string[] = [];
  const losses = new MeshLosses({
    side: 'caller',
    clock,
    log: createLog({ level: 'warn', nowMs: () => 0, write: (line) => void lines.push(line) }),
    observer: {
      handshaken: () => undefined,
      broke: (side) => void broken.push(side),
      turnedAway: () => undefined,
      spare: () => undefined,
    },
  });
  losses.broke('10.0.0.2', 'ECONNRESET');
  losses.broke('10.0.0.2', 'it was ended');
  losses.broke('10.0.0.3', 'it was ended');
  expect([broken.length, lines.length]).toEqual([3, 0]);
  clock.advance(1000);
  losses.broke('10.0.0.2', 'it was closed');
  clock.advance(1000);
  const told: unknown[] = lines.map((line) => JSON.parse(line) as unknown);
  expect(told).toEqual([
    expect.objectContaining({
      event: 'mesh_connections_broke',
      peer: '10.0.0.2',
      connections: 2,
      why: 'ECONNRESET',
    }),
    expect.objectContaining({ peer: '10.0.0.3', connections: 1 }),
    expect.objectContaining({ peer: '10.0.0.2', connections: 1, why: 'it was closed' }),
  ]);
});
