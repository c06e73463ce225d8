import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { CALLER, MeshRig, TARGET } from '../fixtures/mesh-rig.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import { byteStreamContract } from '../streams/byte-stream-contract.ts';
import type { RunningMeshDialer } from './dialer-options.ts';

/** What every dialer promises before a listener of ours. `open` makes one, to the mesh port. */
export function meshDialerContract(
  name: string,
  open: (rig: MeshRig, meshPort: number) => RunningMeshDialer,
): void {
  describe(`${name} as a MeshDialer`, () => {
    let rig: MeshRig;
    beforeEach(async () => {
      rig = await MeshRig.create();
    });
    afterEach(async () => await rig.stop());

    const acceptAll = (): void => {
      rig.onOpening = (opening) => {
        rig.openings.push(opening);
        opening.accept();
      };
    };

    byteStreamContract('a stream of it', async () => await rig.openPair(open(rig, rig.listen().port)));

    test('opens a connection that the called side sees with the verified caller', async () => {
      const dialer = open(rig, rig.listen().port);
      acceptAll();
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
      const dialer = open(rig, rig.listen({ addresses: ['::1'] }).port);
      acceptAll();
      const destination = { address: '::1', port: 443 };
      const source = { address: '2001:db8::5', port: 1 };
      expect((await dialer.open(rig.request({ destination, source }))).kind).toBe('accepted');
      expect(rig.openings[0]).toMatchObject({ destination, claimedSource: source });
    });

    test('tells a denial with its reason and decision, and goes on', async () => {
      const dialer = open(rig, rig.listen().port);
      const denial = { reason: 'quarantined', decisionId: crypto.randomUUID() } as const;
      rig.onOpening = (opening) => opening.deny({ ...denial, message: 'held' });
      for (let i = 0; i < 2; i++)
        expect(await dialer.open(rig.request())).toMatchObject({ kind: 'denied', ...denial });
      expect(rig.count('caller', 'full')).toBe(1);
    });

    test('opens nothing with a certificate that is not valid now, and does not lay it to the other host', async () => {
      const dialer = open(rig, rig.listen().port);
      const caller = { ...rig.callerSvid, notAfterMs: 1 };
      expect(await dialer.open(rig.request({ caller }))).toMatchObject({
        kind: 'failed',
        reason: 'caller_untrusted',
      });
      expect(rig.count('caller', 'failed')).toBe(0);
    });

    test('stop() ends what is open and opens nothing more', async () => {
      const dialer = open(rig, rig.listen().port);
      const { near } = await rig.openPair(dialer);
      const reader = new CollectingReader();
      near.attach(reader);
      await dialer.stop();
      await waitUntil('it is told', () => reader.closure?.failure);
      expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'overloaded' });
    });
  });
}
