import { afterEach, beforeEach, expect, setDefaultTimeout, test } from 'bun:test';
import { MeshRig } from '../fixtures/mesh-rig.ts';

setDefaultTimeout(60_000);

let rig: MeshRig;
beforeEach(async () => {
  rig = await MeshRig.create();
});
afterEach(async () => await rig.stop());

const DIALS = 400;
const AT_ONCE = 64;

test('under a steady stream of handshakes none is overtaken without end', async () => {
  rig.onOpening = (opening) => opening.accept();
  const dialer = rig.dialer(rig.listen().port, {
    limits: { maxHandshakesPerPeer: AT_ONCE, connectMs: 60_000 },
  });
  const finished: number[] = [];
  const outcomes = await Promise.all(
    Array.from({ length: DIALS }, async (_, i) => {
      const outcome = await dialer.open(rig.request());
      finished.push(i);
      return outcome.kind;
    }),
  );
  expect(new Set(outcomes)).toEqual(new Set(['accepted']));
  const overtakers = finished.map((dial, position) => position - dial);
  expect(Math.max(...overtakers)).toBeLessThan(2 * AT_ONCE);
});
