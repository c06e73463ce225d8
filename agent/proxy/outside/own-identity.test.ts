import { beforeEach, describe, expect, test } from 'bun:test';
import { PicketError } from '../../../shared/errors/errors.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { CALLER, OTHER } from '../fixtures/mesh-rig.ts';
import { OwnIdentity } from './own-identity.ts';

test('OwnIdentity looks at this process once a second, and earns nothing while that cannot be done', async () => {
  const clock = new FakeClock();
  let looks = 0;
  let spiffeIds = [CALLER];
  let isGone = false;
  const identitiesOf = (pid: number) => {
    looks += 1;
    expect(pid).toBe(7);
    if (isGone) return Promise.reject(new PicketError('not_found', 'process_gone', 'it has changed'));
    return Promise.resolve({ entryIds: [], spiffeIds, isSame: () => true });
  };
  const own = new OwnIdentity({ processes: { identitiesOf }, pid: 7, clock, onLost: () => undefined });
  expect([await own.earns(CALLER), await own.earns(OTHER), looks]).toEqual([true, false, 1]);
  spiffeIds = [OTHER];
  clock.advance(1000);
  expect([await own.earns(CALLER), await own.earns(OTHER), looks]).toEqual([false, true, 2]);
  isGone = true;
  clock.advance(1000);
  expect(await own.earns(OTHER).catch((error: PicketError) => error.reason)).toBe('process_gone');
});

describe('OwnIdentity.hasLost()', () => {
  let clock: FakeClock;
  let spiffeIds: readonly SpiffeId[];
  let isGone: boolean;
  let losses: number;
  let own: OwnIdentity;

  beforeEach(async () => {
    [clock, spiffeIds, isGone, losses] = [new FakeClock(), [CALLER, OTHER], false, 0];
    const identitiesOf = () =>
      isGone
        ? Promise.reject(new PicketError('not_found', 'process_gone', 'it has changed'))
        : Promise.resolve({ entryIds: [], spiffeIds, isSame: () => true });
    own = new OwnIdentity({ processes: { identitiesOf }, pid: 7, clock, onLost: () => void (losses += 1) });
    expect(clock.pending).toBe(0);
    await own.earns(CALLER);
  });

  async function pass(seconds: number): Promise<void> {
    for (let i = 0; i < seconds; i++) {
      clock.advance(1000);
      await Bun.sleep(0);
    }
  }

  test('tells within a second of what was found once, and of nothing else', async () => {
    await pass(3);
    expect([own.hasLost(CALLER), losses]).toEqual([false, 0]);
    spiffeIds = [];
    await pass(1);
    expect([own.hasLost(CALLER), own.hasLost(OTHER), losses]).toEqual([true, false, 1]);
    expect(clock.pending).toBe(0);
  });

  test('forgets a loss when it is earned again, and watches anew', async () => {
    spiffeIds = [];
    await pass(1);
    spiffeIds = [CALLER];
    await pass(1);
    expect([own.hasLost(CALLER), await own.earns(CALLER), own.hasLost(CALLER)]).toEqual([true, true, false]);
    spiffeIds = [];
    await pass(1);
    expect([own.hasLost(CALLER), losses]).toEqual([true, 2]);
  });

  test('counts what nobody can tell as lost, but not before ten seconds', async () => {
    isGone = true;
    await pass(9);
    expect([own.hasLost(CALLER), losses]).toEqual([false, 0]);
    await pass(1);
    expect([own.hasLost(CALLER), losses]).toEqual([true, 1]);
  });

  test('asks no more once it was stopped', () => {
    own.stop();
    expect(clock.pending).toBe(0);
  });
});
