import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import {
  INSPECTED,
  inspectorOf,
  makeInspectionCertificates,
  removeInspectionCertificates,
  type InspectionCertificates,
} from '../fixtures/inspection-rig.ts';
import type { AskedServer } from './inspector.ts';

/** How much of outside servers is asked at once, and how often: real servers, and a clock of the test. */

let certificates: InspectionCertificates;
const servers: Server[] = [];

beforeAll(async () => {
  certificates = await makeInspectionCertificates();
}, 60_000);
afterAll(() => removeInspectionCertificates(certificates));
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(
  server: Server,
): Promise<{ readonly port: number; readonly connections: () => number }> {
  let connections = 0;
  server.on('connection', (socket) => {
    connections += 1;
    socket.on('error', () => undefined);
  });
  servers.push(server);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, connections: () => connections };
}

const asking = (port: number, asker: string): AskedServer => ({
  address: '127.0.0.1',
  port,
  name: INSPECTED,
  alpn: [],
  terms: undefined,
  asker,
  signal: new AbortController().signal,
});

describe('Inspector', () => {
  test('does not ask a server again for a second that has not proven itself', async () => {
    const { certificate, key } = certificates.stranger;
    const { port, connections } = await listen(
      createTlsServer({ cert: readFileSync(certificate), key: readFileSync(key) }),
    );
    const clock = new FakeClock(Date.now());
    const inspector = inspectorOf(certificates, clock);
    const refused = { refusal: { reason: 'certificate_refused' } };
    for (let i = 0; i < 20; i++) expect(await inspector.meet(asking(port, 'web'))).toMatchObject(refused);
    expect(connections()).toBe(1);
    clock.advance(1000);
    expect(await inspector.meet(asking(port, 'web'))).toMatchObject(refused);
    expect(connections()).toBe(2);
  });

  test('leaves others their share of handshakes, and has whoever asks for more wait', async () => {
    const silent = await listen(createTcpServer());
    const clock = new FakeClock(Date.now());
    const inspector = inspectorOf(certificates, clock);
    const greedy = Array.from(
      { length: 20 },
      async () => await inspector.meet(asking(silent.port, 'greedy')),
    );
    const other = inspector.meet(asking(silent.port, 'web'));
    await waitUntil('all are called that may be', () => silent.connections() === 17);
    clock.advance(10_000);
    const reasons = (await Promise.all([...greedy, other])).map(
      (met) => 'refusal' in met && met.refusal.reason,
    );
    expect(reasons.filter((reason) => reason === 'overloaded')).toHaveLength(4);
    expect(reasons.filter((reason) => reason === 'target_unreachable')).toHaveLength(17);
    expect(silent.connections()).toBe(17);
  });
});
