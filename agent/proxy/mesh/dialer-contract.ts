import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { CALLER, makeAuthority, makeSvid, MeshRig, TARGET } from '../fixtures/mesh-rig.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { byteStreamContract } from '../streams/byte-stream-contract.ts';
import { CLOSE_SOON_MS } from '../streams/last-bytes.ts';
import type { RunningMeshDialer } from './dialer-options.ts';

type OpenDialer = (rig: MeshRig, meshPort: number) => RunningMeshDialer;

/** What every dialer promises before a listener of ours. `open` makes one, to the mesh port. */
export function meshDialerContract(name: string, open: OpenDialer): void {
  describe(`${name} as a MeshDialer`, () => {
    let rig: MeshRig;
    beforeEach(async () => {
      rig = await MeshRig.create();
    });
    afterEach(async () => await rig.stop());

    openingContract(() => rig, open);
    lastBytesContract(() => rig, open);
  });
}

function openingContract(rigOf: () => MeshRig, open: OpenDialer): void {
  byteStreamContract('a stream of it', async () => {
    const rig = rigOf();
    return await rig.openPair(open(rig, rig.listen().port));
  });

  test('opens a connection that the called side sees with the verified caller', async () => {
    const rig = rigOf();
    const dialer = open(rig, rig.listen().port);
    acceptAll(rig);
    const request = rig.request();
    const outcome = await dialer.open(request);
    expect(outcome).toMatchObject({ kind: 'accepted', peerNotAfterMs: rig.targetSvid.notAfterMs });
    const { destination, source } = request;
    const { notAfterMs, chain } = rig.callerSvid;
    const caller = { spiffeId: CALLER, notAfterMs };
    const peer = { address: '127.0.0.1' };
    expect(rig.openings).toMatchObject([
      { caller, target: TARGET, destination, claimedSource: source, peer },
    ]);
    const [opening] = rig.openings;
    expect(opening?.caller.leaf.toHex()).toBe(chain[0]?.toHex());
    expect(opening?.refusal).toBeUndefined();
  });

  test('carries IPv6 addresses', async () => {
    const rig = rigOf();
    const dialer = open(rig, rig.listen({ addresses: ['::1'] }).port);
    acceptAll(rig);
    const destination = { address: '::1', port: 443 };
    const source = { address: '2001:db8::5', port: 1 };
    expect((await dialer.open(rig.request({ destination, source }))).kind).toBe('accepted');
    expect(rig.openings[0]).toMatchObject({ destination, claimedSource: source });
  });

  test('tells a denial with its reason and decision, and goes on', async () => {
    const rig = rigOf();
    const dialer = open(rig, rig.listen().port);
    const denial = { reason: 'quarantined', decisionId: crypto.randomUUID() } as const;
    rig.onOpening = (opening) => opening.deny({ ...denial, message: 'held' });
    for (let i = 0; i < 2; i++)
      expect(await dialer.open(rig.request())).toMatchObject({ kind: 'denied', ...denial });
    expect(rig.count('caller', 'full')).toBe(1);
  });

  test('opens nothing with a certificate that is not valid now, and does not lay it to the other host', async () => {
    const rig = rigOf();
    const dialer = open(rig, rig.listen().port);
    const caller = { ...rig.callerSvid, notAfterMs: 1 };
    expect(await dialer.open(rig.request({ caller }))).toMatchObject({
      kind: 'failed',
      reason: 'caller_untrusted',
    });
    expect(rig.count('caller', 'failed')).toBe(0);
  });

  test('stop() ends what is open and opens nothing more', async () => {
    const rig = rigOf();
    const dialer = open(rig, rig.listen().port);
    const { near } = await rig.openPair(dialer);
    const reader = new CollectingReader();
    near.attach(reader);
    await dialer.stop();
    await waitUntil('it is told', () => reader.closure?.failure);
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'overloaded' });
  });
}

function lastBytesContract(rigOf: () => MeshRig, open: OpenDialer): void {
  test.each([
    ['more than the kernel takes', Infinity],
    ['what the kernel takes', 128 * 1024],
  ])('%s waits for a slow reader on a connection that is retired meanwhile, both ways', async (_, bytes) => {
    const rig = rigOf();
    const listener = rig.listen();
    const dialer = open(rig, listener.port);
    const answer = await rig.openPair(dialer);
    const upload = await rig.openPair(dialer);
    const waiting = [
      await sendAndEnd({ from: answer.far, to: answer.near, bytes }),
      await sendAndEnd({ from: upload.near, to: upload.far, bytes }),
    ];
    rig.called.serve(await makeSvid(TARGET, rig.authority));
    rig.calling.serve(await makeSvid(CALLER, rig.authority));
    rig.clock.pass(CLOSE_SOON_MS);
    // Nobody resumes before a reset would have come.
    await Bun.sleep(100);
    for (const { reader, sent, resume } of waiting) {
      resume();
      await waitUntil('it is over', () => reader.closure);
      expect(reader.closure).toEqual({ failure: undefined });
      expect([reader.length, reader.isEnded]).toEqual([sent, true]);
    }
    await waitUntil('nothing is left', () => listener.connections + dialer.connections === 0);
  });

  test('what waits for a slow reader goes with its connection when that is trusted no more', async () => {
    const rig = rigOf();
    const listener = rig.listen();
    const dialer = open(rig, listener.port);
    const { near, far } = await rig.openPair(dialer);
    const { reader, sent, resume } = await sendAndEnd({ from: far, to: near });
    rig.called.serve(await makeSvid(TARGET, rig.authority));
    expect(listener.connections).toBe(1);
    rig.called.trust(await makeAuthority());
    rig.clock.pass(CLOSE_SOON_MS);
    resume();
    await waitUntil('it is told', () => reader.closure?.failure);
    expect([listener.connections, reader.length < sent]).toEqual([0, true]);
  });
}

function acceptAll(rig: MeshRig): void {
  rig.onOpening = (opening) => {
    rig.openings.push(opening);
    opening.accept();
  };
}

/** The reader has nothing to say and reads nothing; the writer sends so many bytes, or until it should wait, and ends. */
async function sendAndEnd({
  from,
  to,
  bytes = Infinity,
}: {
  readonly from: ByteStream;
  readonly to: ByteStream;
  readonly bytes?: number;
}) {
  const [writer, reader] = [new CollectingReader(), new CollectingReader()];
  from.attach(writer);
  to.attach(reader);
  to.pause();
  to.end();
  await waitUntil('the reader has ended', () => writer.isEnded);
  const chunk = Buffer.alloc(64 * 1024, 'x');
  let sent = 0;
  await waitUntil('the writer is held back or done', async () => {
    for (let isRoom = true; isRoom && sent < bytes; sent += chunk.length) isRoom = from.write(chunk);
    const { drains } = writer;
    await Bun.sleep(60);
    return writer.drains === drains;
  });
  from.end();
  return { reader, sent, resume: () => to.resume() };
}
