import { beforeEach, describe, expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { buildSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { AgentSvid, PROVE_AGAIN_MS } from './agent-svid.ts';
import type { HeldSvid } from './identity.ts';

const TRUST_DOMAIN = parseTrustDomain('example.org');
const BUNDLE: TrustBundle = {
  trustDomain: TRUST_DOMAIN,
  x509Authorities: [],
  sequence: 1,
  refreshHintSeconds: 60,
};
const LIFE_MS = 3_600_000;
const REFUSED = new PicketError('permission_denied', 'node_unknown', 'The server does not know this host');

let clock: FakeClock;
let refusal: WatchedValue<PicketError | undefined>;
/** What was done, in its order. */
let done: string[];
let canReattest: boolean;
let own: AgentSvid;

beforeEach(() => {
  clock = new FakeClock();
  refusal = new WatchedValue<PicketError | undefined>(undefined);
  done = [];
  canReattest = true;
  const give = (how: string) => {
    done.push(how);
    return Promise.resolve({ svid: svidOf(how), bundle: BUNDLE });
  };
  own = new AgentSvid({
    attestation: {
      get canReattest() {
        return canReattest;
      },
      attest: async () => await give('attested'),
      renew: async () => await give('renewed'),
    },
    store: {
      writeAgentSvid: ({ chainPem }) => {
        done.push(`wrote ${chainPem} while holding ${own.credentials?.chainPem ?? 'nothing'}`);
        return Promise.resolve();
      },
    },
    refusal,
    clock,
    random: () => 0.5,
  });
});

/** `chainPem` tells one from another. */
function svidOf(chainPem: string, name = 'host'): HeldSvid {
  return {
    spiffeId: buildSpiffeId(TRUST_DOMAIN, `/picket/agent/${name}`),
    chain: [],
    privateKeyPkcs8: new Uint8Array(),
    chainPem,
    privateKeyPem: '',
    notBeforeMs: clock.nowMs(),
    notAfterMs: clock.nowMs() + LIFE_MS,
  };
}

describe('AgentSvid', () => {
  test('has nothing before it was proven for, and writes it down before it counts', async () => {
    expect(() => own.current).toThrow('This host has not attested yet');
    expect([own.isHeld, own.credentials, own.spiffeId, own.untilNextMs()]).toEqual([
      false,
      undefined,
      undefined,
      0,
    ]);
    expect(await own.attest()).toEqual({ bundle: BUNDLE, isOther: true });
    expect(done).toEqual(['attested', 'wrote attested while holding nothing']);
    expect(own.credentials?.chainPem).toBe('attested');
    expect(await own.attest()).toEqual({ bundle: BUNDLE, isOther: false });
  });

  test('is renewed when that is due, and proven for where it has ended', async () => {
    await own.attest();
    expect(await own.renewDue()).toBeUndefined();
    clock.advance(own.untilNextMs());
    await own.renewDue();
    expect(own.current.current.chainPem).toBe('renewed');
    clock.advance(LIFE_MS);
    expect([own.credentials, own.isHeld, own.untilNextMs()]).toEqual([undefined, true, 0]);
    await own.renewDue();
    expect(done.filter((each) => !each.startsWith('wrote'))).toEqual(['attested', 'renewed', 'attested']);
  });

  test('is proven for anew while the server refuses it, but not over and over', async () => {
    await own.attest();
    refusal.set(REFUSED);
    expect(await own.renewDue()).toBeUndefined();
    expect(own.untilNextMs()).toBe(PROVE_AGAIN_MS);
    clock.advance(PROVE_AGAIN_MS);
    expect(await own.renewDue()).toBeDefined();
    expect(own.untilNextMs()).toBe(PROVE_AGAIN_MS);
  });

  test('is left alone by a refusal where the host has no second proof', async () => {
    await own.attest();
    canReattest = false;
    refusal.set(REFUSED);
    clock.advance(PROVE_AGAIN_MS);
    expect(await own.renewDue()).toBeUndefined();
  });

  test('restore() knows whose it was, also where it has ended', () => {
    const svid = svidOf('of before');
    clock.advance(LIFE_MS);
    own.restore(svid);
    expect([own.spiffeId, own.isHeld]).toEqual([svid.spiffeId, false]);
  });

  test('adopt() takes another one that is good, and tells whoever follows it', async () => {
    await own.attest();
    const seen: string[] = [];
    own.current.watch(({ chainPem }) => seen.push(chainPem));
    const ended = { ...svidOf('ended'), notAfterMs: clock.nowMs() };
    expect([own.adopt(svidOf('attested')), own.adopt(ended), own.adopt(svidOf('next'))]).toEqual([
      false,
      false,
      true,
    ]);
    expect(seen).toEqual(['next']);
  });
});
