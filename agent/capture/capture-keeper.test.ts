import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import type { UserRange } from '../subordinate-users/subordinate-users.ts';
import { startCaptureKeeper, type CaptureKeeper } from './capture-keeper.ts';
import { KeptReturnRoutes, type ReturnPath } from './kept-return-routes.ts';
import type { OpenRulesWatch } from './rules-watch.ts';
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
  let transparentPorts: readonly number[] = [];
  let userRanges: readonly UserRange[] = [];
  const listeners = new Set<() => void>();
  let tellOfChange: Parameters<OpenRulesWatch>[0]['onChange'] | undefined;
  const start = async (
    command = host.in('nft'),
    lookEveryMs = 50,
    returnRoutes?: KeptReturnRoutes,
  ): Promise<CaptureKeeper> =>
    await startCaptureKeeper({
      capture: new NftCapture({ command }),
      settings: { ...SAMPLE_SETTINGS, transparentId: 0x504a, decidesUdp: true },
      ...(returnRoutes === undefined ? {} : { returnRoutes }),
      registered: () => ({ localPorts, transparentPorts }),
      userRanges: () => userRanges,
      watchRegistered: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      openRulesWatch: ({ onChange }) => {
        tellOfChange = onChange;
        return Promise.resolve(() => undefined);
      },
      lookEveryMs,
      clock: systemClock,
      log: silentLog,
    });
  const rules = async (): Promise<string> => await host.runOk('nft', 'list', 'ruleset');

  test('installs the rules, follows registration, and leaves the rules when it stops', async () => {
    const keeper = await start();
    expect(keeper.status).toEqual({
      backend: 'nftables',
      isIntact: true,
      repairs: 0,
      isWatched: true,
      isContested: false,
      transparentPorts: { steered: [], leftAlone: [] },
    });
    localPorts = [80, 5432];
    for (const listener of listeners) listener();
    await waitUntil('the new port is captured on loopback', async () => (await rules()).includes('5432'));
    await keeper.stop();
    expect(keeper.status.isIntact).toBe(false);
    expect(listeners.size).toBe(0);
    expect(await rules()).toContain('table inet picket');
  });

  test('follows who is given users of his own, of which nobody tells', async () => {
    const keeper = await start();
    userRanges = [{ owner: 'alice', first: 100_000, last: 165_535 }];
    await waitUntil('they are counted together', async () =>
      (await rules()).includes('100000-165535 : goto udp_asks_of_0'),
    );
    expect(keeper.status).toMatchObject({ isIntact: true, repairs: 0 });
    await keeper.stop();
  });

  test('keeps no way back for a port that the rules leave alone, and says which that is', async () => {
    const returnPath: ReturnPath = {
      look: () => 'in_force',
      install: () => undefined,
      remove: () => undefined,
    };
    const returnRoutes = new KeptReturnRoutes(returnPath, silentLog);
    transparentPorts = [SAMPLE_SETTINGS.exclude.inboundPorts[0] ?? 0];
    const keeper = await start(host.in('nft'), 3_600_000, returnRoutes);
    expect(keeper.status.transparentPorts).toEqual({ steered: [], leftAlone: transparentPorts });
    expect(keeper.status.returnPath).toBeUndefined();
    transparentPorts = [...transparentPorts, 5432];
    for (const listener of listeners) listener();
    await waitUntil('the way back is kept', () => keeper.status.returnPath?.isInForce === true);
    expect(keeper.status.transparentPorts.steered).toEqual([5432]);
    transparentPorts = [];
    await keeper.stop();
  });

  test('undoes what somebody else did to the rules, and says so', async () => {
    const keeper = await start();
    await host.runOk('nft', 'flush', 'ruleset');
    await waitUntil('the rules are back', async () => (await rules()).includes('table inet picket'));
    await waitUntil('it is counted', () => keeper.status.repairs === 1 && keeper.status.isIntact);
    await keeper.stop();
  });

  test('looks at once when it hears of a change, and names who made it', async () => {
    const keeper = await start(host.in('nft'), 3_600_000);
    await host.runOk('nft', 'flush', 'ruleset');
    tellOfChange?.({ pid: process.pid, program: 'nft' });
    await waitUntil('it is undone', () => keeper.status.repairs === 1 && keeper.status.isIntact);
    expect(await rules()).toContain('table inet picket');
    expect(keeper.status.changedBy).toStartWith(`nft (pid ${process.pid}), started by `);
    await keeper.stop();
  });

  test('says so when the rules are taken away again and again, and goes on putting them back', async () => {
    const keeper = await start(host.in('nft'), 3_600_000);
    for (let change = 1; change <= 12; change++) {
      expect(keeper.status.isContested).toBe(change === 12);
      await host.runOk('nft', 'flush', 'ruleset');
      tellOfChange?.({ pid: process.pid, program: 'nft' });
      await waitUntil('it is undone', () => keeper.status.repairs === change);
    }
    await keeper.stop();
  });

  test('does not start when the kernel refuses the rules', async () => {
    expect((await refusalOf(start(['false']))).reason).toBe('nft_refused');
  });
});
