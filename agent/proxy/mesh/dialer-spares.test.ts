import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { waitUntil } from '../../../tests/kit/wait.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import { CALLER, makeAuthority, makeSvid, MeshRig, streamOf } from '../fixtures/mesh-rig.ts';
import type { MeshDialerLimits, RunningMeshDialer } from './dialer-options.ts';
import type { MeshListenerOptions } from './listener.ts';
import type { MeshRequest } from './mesh.ts';
import type { SpareEvent } from './spares.ts';

setDefaultTimeout(60_000);

/** How many openings make a key busy. */
const BUSY_USES = 3;

let rig: MeshRig;
let meshPort = 0;
beforeEach(async () => {
  rig = await MeshRig.create();
  rig.onOpening = (opening) => {
    rig.openings.push(opening);
    echo(opening.accept());
  };
});
afterEach(async () => await rig.stop());

function echo(stream: ByteStream): void {
  stream.attach({
    onData: (bytes) => void stream.write(bytes),
    onEnd: () => stream.end(),
    onDrain: () => undefined,
    onClose: () => undefined,
  });
}

function start(
  limits: Partial<MeshDialerLimits> = {},
  listenerOptions: Partial<MeshListenerOptions> = {},
): RunningMeshDialer {
  meshPort = rig.listen(listenerOptions).port;
  return rig.dialer(meshPort, { limits: { maxSparesPerKey: 1, maxTickets: 0, ...limits } });
}

async function open(dialer: RunningMeshDialer, change: Partial<MeshRequest> = {}): Promise<ByteStream> {
  return streamOf(await dialer.open(rig.request(change)));
}

async function close(stream: ByteStream): Promise<void> {
  const reader = new CollectingReader();
  stream.attach(reader);
  stream.end();
  await waitUntil('it has ended', () => reader.closure);
  expect(reader.closure).toEqual({ failure: undefined });
}

/** Openings one after another, until the key is busy and everything that they called for stands in the pool: the connection that carried them, and a spare. */
async function warm(dialer: RunningMeshDialer): Promise<void> {
  for (let i = 0; i < BUSY_USES; i++) await close(await open(dialer));
  await waitUntil('a spare stands ready', () => count('made') === 1 && dialer.idleConnections === 2);
}

function count(what: SpareEvent): number {
  return rig.spares.filter((one) => one === what).length;
}

/** Handshakes of the calling side, those of spares included. */
function handshakes(): number {
  return rig.count('caller', 'full') + rig.count('caller', 'resumed');
}

describe('a mesh dialer with spares', () => {
  test('makes none for a key that is not busy', async () => {
    const dialer = start();
    for (let i = 1; i < BUSY_USES; i++) await close(await open(dialer));
    expect([dialer.connections, rig.spares]).toEqual([1, []]);
  });

  test('has one ready for the opening that finds no other, which waits for no handshake', async () => {
    const dialer = start();
    await warm(dialer);
    const first = await open(dialer);
    expect(rig.spares).toEqual(['made']);
    const second = await open(dialer);
    expect(rig.spares.slice(0, 2)).toEqual(['made', 'taken']);
    await waitUntil('it is made good', () => count('made') === 2);
    // One for the first opening of all; every other was a spare's.
    expect(handshakes()).toBe(1 + count('made'));
    await Promise.all([close(first), close(second)]);
  });

  test('has one ready with the new certificate after a renewal, before anybody asks', async () => {
    const dialer = start();
    await warm(dialer);
    const renewed = await makeSvid(CALLER, rig.authority);
    rig.calling.serve(renewed);
    await waitUntil('one of the new stands alone', () => count('made') === 2 && dialer.connections === 1);
    expect(rig.spares).toEqual(['made', 'unused', 'made']);
    const before = handshakes();
    await open(dialer, { caller: renewed });
    expect(count('taken')).toBe(1);
    const { leaf } = rig.openings.at(-1)!.caller;
    expect(Buffer.from(leaf).equals(renewed.chain[0]!)).toBe(true);
    await waitUntil('it is made good', () => count('made') === 3);
    expect(handshakes()).toBe(before + 1);
  });

  test('ends with the identity that it was made for, and is not made anew', async () => {
    const dialer = start();
    await warm(dialer);
    rig.calling.serve();
    await waitUntil('nothing is left', () => dialer.connections === 0);
    await waitUntil('it is told', () => count('failed') === 1);
    expect(rig.spares).toEqual(['made', 'unused', 'failed']);
    expect(handshakes()).toBe(2);
  });

  test('is made anew when trust changes, and not with a host that is not trusted any more', async () => {
    const dialer = start();
    await warm(dialer);
    const another = await makeAuthority();
    rig.calling.trust(rig.authority, another);
    await waitUntil('another stands alone', () => count('made') === 2 && dialer.connections === 1);
    rig.calling.trust(another);
    await waitUntil('that is refused', () => count('failed') === 1 && dialer.connections === 0);
    expect(rig.spares).toEqual(['made', 'unused', 'made', 'unused', 'failed']);
  });

  test('gives its place at the called side to whoever needs it, and does not come back for it', async () => {
    const dialer = start({}, { limits: { maxConnections: 2 } });
    await warm(dialer);
    const other = rig.dialer(meshPort, { limits: { maxTickets: 0 } });
    const [first, second] = [await open(other), await open(other)];
    await waitUntil('both idle ones are gone', () => dialer.connections === 0);
    expect(rig.spares).toEqual(['made', 'unused']);
    await Promise.all([close(first), close(second)]);
    await close(await open(dialer));
    expect(rig.spares).toEqual(['made', 'unused']);
  });

  test('makes none beyond the places of the pool', async () => {
    const dialer = start({ maxIdle: 1 });
    const streams = await Promise.all([open(dialer), open(dialer), open(dialer)]);
    await waitUntil('one is made', () => count('made') === 1);
    expect(dialer.idleConnections).toBe(1);
    const before = handshakes();
    await open(dialer);
    expect([count('taken'), handshakes() - before - (count('made') - 1)]).toEqual([1, 0]);
    await Promise.all(streams.map(close));
    expect(dialer.idleConnections).toBeLessThanOrEqual(1);
  });

  test('drain() and stop() end it and make no other', async () => {
    const dialer = start();
    await warm(dialer);
    dialer.drain();
    await waitUntil('nothing is left', () => dialer.connections === 0);
    for (let i = 0; i < BUSY_USES; i++) await close(await open(dialer));
    rig.calling.serve(await makeSvid(CALLER, rig.authority));
    await dialer.stop();
    expect(dialer.connections).toBe(0);
    expect(rig.spares).toEqual(['made', 'unused']);
  });
});
