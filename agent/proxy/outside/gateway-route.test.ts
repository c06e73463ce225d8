import { beforeEach, describe, expect, test } from 'bun:test';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { CALLER, OTHER, TARGET as GATEWAY } from '../fixtures/mesh-rig.ts';
import { ScriptedStream } from '../fixtures/scripted-stream.ts';
import { GatewayRoute } from './gateway-route.ts';
import type { Encounter } from '../judge/judge.ts';
import type { Leaving } from './leaving.ts';
import type { MeshOutcome, MeshRequest } from '../mesh/mesh.ts';

const PLACES = [1, 2, 3, 4].map((host) => ({ address: `10.0.1.${host}`, port: 15_008 }));
const DESTINATION = { address: '192.0.2.7', port: 443 };
const SOURCE = { address: '10.0.0.1', port: 40_000 };
const SERIAL = '0a';

const encounter: Encounter = {
  direction: 'outbound',
  caller: { spiffeId: CALLER, ...SOURCE, certificateNotAfterMs: 0 },
  target: { spiffeId: null, ...DESTINATION },
  via: GATEWAY,
  process: null,
};

const leave = (): void => undefined;

let rig: JudgeRig;
let directory: InMemoryDirectory;
let calls: MeshRequest[];
/** By address, what becomes of an opening there; accepted unless it is named. */
let outcomes: Map<string, MeshOutcome>;
let far: ScriptedStream;
let route: GatewayRoute;

beforeEach(() => {
  [rig, directory, far] = [new JudgeRig(), new InMemoryDirectory(), new ScriptedStream()];
  [calls, outcomes] = [[], new Map<string, MeshOutcome>()];
  directory.gateways.set(GATEWAY, PLACES.slice(0, 2));
  const open = (request: MeshRequest): Promise<MeshOutcome> => {
    calls.push(request);
    const accepted = {
      kind: 'accepted',
      stream: far,
      peerNotAfterMs: 0,
      peerSerial: SERIAL,
      use: 'new',
      leave,
    } as const;
    return Promise.resolve(outcomes.get(request.at?.address ?? '') ?? accepted);
  };
  const { judge, clock } = rig;
  route = new GatewayRoute({
    judge,
    directory,
    dialer: { open },
    isGatewayHost: true,
    meshPort: 15_008,
    clock,
  });
});

async function open(svid: HeldSvid | null = { spiffeId: CALLER } as HeldSvid) {
  const leaving = { svid, destination: DESTINATION, connectionId: 'connection' } as unknown as Leaving;
  return await route.open(leaving, encounter, GATEWAY);
}

const unreachable = { kind: 'failed', reason: 'target_unreachable', message: 'it is gone' } as const;
const called = (): readonly (string | undefined)[] => calls.map(({ at }) => at?.address);
const [first, second] = PLACES.map(({ address }) => address) as [string, string];

describe('GatewayRoute', () => {
  test('asks as the program’s workload, of whoever proves to be the gateway, for the outside address', async () => {
    expect(await open()).toEqual({
      far,
      leave,
      encounter: { ...encounter, target: { ...encounter.target, certificateSerial: SERIAL } },
    });
    expect(calls).toMatchObject([
      {
        caller: { spiffeId: CALLER },
        target: GATEWAY,
        at: PLACES[0] as SocketAddress,
        destination: DESTINATION,
      },
    ]);
  });

  test('takes one host after the other, and those last that could not be reached a moment ago', async () => {
    await open();
    await open();
    expect(called()).toEqual([first, second]);
    outcomes.set(first, unreachable);
    calls = [];
    expect(await open()).toHaveProperty('far');
    await open();
    await open();
    expect(called()).toEqual([first, second, second, second]);
    rig.clock.advance(30_001);
    outcomes.clear();
    calls = [];
    await open();
    await open();
    expect(new Set(called())).toEqual(new Set([first, second]));
  });

  test('tries each host once before it tries one by its other family', async () => {
    const sixes = [1, 2].map((host) => ({ address: `fd00::${host}`, port: 15_008 }));
    const [a, b] = sixes.map(({ address }) => address) as [string, string];
    directory.gateways.set(GATEWAY, [...PLACES.slice(0, 2), ...sixes].toReversed());
    outcomes.set(second, unreachable);
    await open();
    expect(called()).toEqual([second, first]);
    outcomes.set(first, unreachable);
    await open();
    expect(called().slice(2)).toEqual([first, a]);
    directory.gateways.set(GATEWAY, sixes);
    calls = [];
    await open();
    await open();
    expect(new Set(called())).toEqual(new Set([a, b]));
  });

  test('tries few of many, and then says why the last did not take it', async () => {
    directory.gateways.set(GATEWAY, PLACES);
    for (const { address } of PLACES) outcomes.set(address, unreachable);
    expect(await open()).toEqual({ refusal: { reason: 'target_unreachable', message: 'it is gone' } });
    expect(calls).toHaveLength(3);
  });

  test('takes a denial for one: no other host of the gateway is asked', async () => {
    const denied = { kind: 'denied', reason: 'egress_deny', decisionId: 'd', message: 'no' } as const;
    outcomes.set(first, denied);
    expect(await open()).toEqual({
      refusal: { reason: 'egress_deny', decisionId: 'd', message: 'no', isTold: true },
    });
    expect(calls).toHaveLength(1);
  });

  test.each(['listener_unidentified', 'listener_not_registered', 'audit_unavailable', 'overloaded'] as const)(
    'asks another host where one denies for itself: %s',
    async (reason) => {
      outcomes.set(first, { kind: 'denied', reason, decisionId: 'd', message: 'no' });
      expect(await open()).toHaveProperty('far');
      await open();
      await open();
      // One that is only busy keeps its turn.
      const isKept = reason === 'overloaded';
      expect(called()).toEqual(
        isKept ? [first, second, second, first, second] : [first, second, second, second],
      );
    },
  );

  test('gives a host little time while there is another, if it gives no sign of itself', async () => {
    outcomes.set(first, unreachable);
    await open();
    expect(calls.map(({ patienceMs, isAnsweredSlowly }) => [patienceMs, isAnsweredSlowly])).toEqual([
      [3000, true],
      [undefined, undefined],
    ]);
  });

  test('blames no host for a certificate of the program that has ended', async () => {
    outcomes.set(first, { kind: 'failed', reason: 'caller_untrusted', message: 'it has ended' });
    expect(await open()).toMatchObject({ refusal: { reason: 'caller_untrusted' } });
    expect(called()).toEqual([first]);
  });

  test('opens nothing where no host is registered, or the program has no identity', async () => {
    directory.gateways.clear();
    expect(await open()).toMatchObject({ refusal: { reason: 'target_unreachable' } });
    directory.gateways.set(OTHER, PLACES);
    expect(await open()).toMatchObject({ refusal: { reason: 'target_unreachable' } });
    expect(await open(null)).toMatchObject({ refusal: { reason: 'caller_unidentified' } });
    expect(calls).toEqual([]);
  });

  test('goes by no gateway in quarantine, nor by a host of one, by its address or by the certificate that answers', async () => {
    rig.hold = ({ target }) => (target.spiffeId === GATEWAY ? 'held' : undefined);
    expect(await open()).toMatchObject({ refusal: { reason: 'quarantined' } });
    expect(calls).toEqual([]);
    rig.hold = ({ target }) => ('address' in target && target.address === first ? 'held' : undefined);
    expect(await open()).toHaveProperty('far');
    expect(called()).toEqual([second]);
    rig.hold = ({ target }) => (target.certificateSerial === SERIAL ? 'held' : undefined);
    expect(await open()).toMatchObject({ refusal: { reason: 'quarantined' } });
    expect(far.abortion).toBeDefined();
  });

  test('is here where this host is the gateway by registration and runs as one', () => {
    expect(route.isHere(GATEWAY)).toBe(false);
    directory.ownGateway = GATEWAY;
    expect(route.isHere(GATEWAY)).toBe(true);
    expect(route.isHere(OTHER)).toBe(false);
    const { judge, clock } = rig;
    const dialer = { open: () => Promise.reject(new Error('Nobody calls')) };
    const plain = { judge, directory, dialer, isGatewayHost: false, meshPort: 15_008, clock };
    expect(new GatewayRoute(plain).isHere(GATEWAY)).toBe(false);
  });
});
