import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { startCaptureKeeper, type CaptureKeeper } from './capture-keeper.ts';
import { SAMPLE_SETTINGS } from './contract.ts';
import { NftCapture } from './nft.ts';

describe('startCaptureKeeper()', () => {
  let network: TestNetwork;
  let host: TestHost;
  beforeAll(async () => {
    network = await createTestNetwork(1);
    host = network.hosts[0]!;
  });
  afterAll(async () => await network.remove());

  let localPorts: readonly number[] = [80];
  const listeners = new Set<() => void>();
  const start = async (command = host.in('nft')): Promise<CaptureKeeper> =>
    await startCaptureKeeper({
      capture: new NftCapture({ command }),
      settings: SAMPLE_SETTINGS,
      localPorts: () => localPorts,
      watchLocalPorts: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      lookEveryMs: 50,
      clock: systemClock,
      log: silentLog,
    });
  const rules = async (): Promise<string> => await host.runOk('nft', 'list', 'ruleset');

  test('installs the rules, follows registration, and leaves the rules when it stops', async () => {
    const keeper = await start();
    expect(keeper.status).toEqual({ isIntact: true, repairs: 0 });
    localPorts = [80, 5432];
    for (const listener of listeners) listener();
    await waitUntil('the new port is captured on loopback', async () => (await rules()).includes('5432'));
    await keeper.stop();
    expect(listeners.size).toBe(0);
    expect(await rules()).toContain('table inet picket');
  });

  test('undoes what somebody else did to the rules, and says so', async () => {
    const keeper = await start();
    await host.runOk('nft', 'flush', 'ruleset');
    await waitUntil('the rules are back', async () => (await rules()).includes('table inet picket'));
    await waitUntil('it is counted', () => keeper.status.repairs === 1 && keeper.status.isIntact);
    await keeper.stop();
  });

  test('does not start when the kernel refuses the rules', async () => {
    expect((await refusalOf(start(['false']))).reason).toBe('nft_refused');
  });
});
