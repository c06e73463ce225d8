import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { entryPage } from '../../../shared/protocol/operator.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { python, pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';
import { awaitDraining, awaitEnd } from './upgraded.ts';

/** A program that has ended its side and reads late, while what carries the answer is retired. The service has given all of it away by then. */

setDefaultTimeout(120_000);

const PORT = '7401';
/** Of an answer: more than a kernel takes for the program that reads late, and no more than the kernels between the agents take beside that. */
const SIZE = String(6 << 20);
/** Longer than an agent waits for the end of a connection that it breaks. */
const BEYOND_LINGER_MS = 2000;
let traffic: TrafficMesh;

beforeAll(async () => {
  const slow = pythonService({
    path: '/slow',
    uid: 7401,
    listen: [`${PORT}/tcp`],
    program: 'slow-reader.py',
    args: ['serve', PORT],
  });
  traffic = await TrafficMesh.open({
    services: [slow],
    isOpen: async (open) =>
      (
        await open.asCaller(['sh', '-c', `echo | nc -N -w 5 ${open.store.host.ipv4} ${PORT} | wc -c`])
      ).stdout.trim() === SIZE,
  });
}, 120_000);
afterAll(async () => await traffic?.close());

const countAnswers = (): number => traffic.service('/slow').log().split('answered').length - 1;

/** What a slow reader got, who reads only after `disturb`. */
async function readLate(name: string, disturb: () => Promise<void>): Promise<string> {
  const before = countAnswers();
  const file = join(traffic.folder, `${name}.go`);
  const reader = traffic.startCaller(
    name,
    python('slow-reader.py', 'call', traffic.store.host.ipv4, PORT, file),
  );
  await waitUntil('the service has answered', () => countAnswers() > before);
  try {
    await disturb();
  } finally {
    writeFileSync(file, '');
  }
  await waitUntil('it has read', () => reader.log().includes('received'));
  return reader.log().trim();
}

test('an answer is whole although the certificates of both ends are replaced before it is read', async () => {
  const { control } = traffic.mesh;
  const countIssued = (): number =>
    [traffic.store, traffic.desk].reduce((sum, host) => sum + eventsOf(host.log(), 'svid_issued').length, 0);
  const { items } = await control.picketJson(entryPage, 'entry', 'list');
  const read = await readLate('renewed', async () => {
    const before = countIssued();
    for (const { entryId } of items) await control.picketOk('entry', 'update', entryId, '--hint', 'renewed');
    await waitUntil('all have new ones', () => countIssued() >= before + items.length);
    await Bun.sleep(BEYOND_LINGER_MS);
  });
  expect(read).toBe(`received ${SIZE}`);
});

test.each(['store', 'desk'] as const)(
  'an answer is whole although the agent of %s is replaced',
  async (name) => {
    const host = traffic[name];
    const read = await readLate(`upgraded-${name}`, async () => {
      await host.upgrade();
      await Bun.sleep(BEYOND_LINGER_MS);
      expect(host.isPredecessorAlive).toBe(true);
      // Also where nothing is carried any more, and the other host has yet to take the end.
      await awaitDraining(host);
    });
    expect(read).toBe(`received ${SIZE}`);
    await awaitEnd(host);
  },
);
