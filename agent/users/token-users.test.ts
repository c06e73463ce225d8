import { describe, expect, test } from 'bun:test';
import { createHmac } from 'node:crypto';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { TokenIssuer } from '../../tests/kit/token-issuer.ts';
import type { DecisionUser } from '../../shared/policy/circumstances.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { TokenUsers } from './token-users.ts';

const ISSUER = 'https://login.example.org';
const HOUR_MS = 3_600_000;

class Rig {
  readonly clock = new FakeClock(Date.now());
  readonly issuer = new TokenIssuer(ISSUER);
  readonly outcomes: string[] = [];
  readonly users: TokenUsers;
  reads = 0;
  isReachable = true;
  /** What is published in the place of the issuer's set. */
  published: string | undefined;

  constructor() {
    this.issuer.addKey('one');
    this.users = new TokenUsers({
      issuers: [
        {
          name: 'corp',
          issuer: ISSUER,
          audiences: ['shop'],
          algorithms: ['ES256', 'RS256', 'PS256', 'EdDSA'],
          refreshMs: 300_000,
          maxKeyAgeMs: HOUR_MS,
          source: { read: async () => await this.#readKeys() },
        },
      ],
      clock: this.clock,
      random: () => 0.5,
      log: createLog({ level: 'error', nowMs: () => 0, write: () => undefined }),
      onVerified: (outcome) => void this.outcomes.push(outcome),
    });
  }

  static async started(): Promise<Rig> {
    const rig = new Rig();
    await rig.users.start();
    return rig;
  }

  async #readKeys(): Promise<string> {
    this.reads += 1;
    await Promise.resolve();
    if (!this.isReachable) throw new PicketError('unavailable', 'keys_unavailable', 'it is not there');
    return this.published ?? this.issuer.keySet;
  }

  identify(token: string, scheme = 'Bearer'): DecisionUser {
    const headers = { authorization: `${scheme} ${token}` };
    return this.users.identify({ method: 'GET', path: '/', host: 'shop', headers });
  }

  /** Lets what was begun in the background come to its end. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }
}

const nobody = (reason: string): unknown => ({ kind: 'unknown', reason });
const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

describe('TokenUsers', () => {
  test.each(['ES256', 'RS256', 'PS256', 'EdDSA'] as const)(
    'knows the user of a token that %s signed',
    async (algorithm) => {
      const rig = new Rig();
      rig.issuer.addKey('two', algorithm);
      await rig.users.start();
      const token = rig.issuer.sign({ sub: 'alice', groups: ['ops'], amr: ['mfa'] }, { kid: 'two' });
      expect(rig.identify(token)).toMatchObject({
        kind: 'known',
        id: 'corp:alice',
        issuer: ISSUER,
        subject: 'alice',
        audience: ['shop'],
        groups: ['ops'],
        claims: { amr: ['mfa'] },
      });
      expect(rig.identify(token, 'bEARER')).toBe(rig.identify(token));
      expect(rig.outcomes).toEqual(['known']);
    },
  );

  test('knows nobody without a token, and verifies nothing of other schemes', async () => {
    const { users, outcomes, ...rig } = await Rig.started();
    expect(users.identify(null)).toEqual(nobody('no_token') as DecisionUser);
    expect(users.identify({ method: 'GET', path: '/', host: 'h', headers: {} })).toEqual(
      nobody('no_token') as DecisionUser,
    );
    const headers = { authorization: 'Basic YWxpY2U6c2VjcmV0' };
    expect(users.identify({ method: 'GET', path: '/', host: 'h', headers })).toEqual(
      nobody('no_token') as DecisionUser,
    );
    expect(outcomes).toEqual([]);
    expect(rig.reads).toBe(1);
  });

  test('takes no token that is not signed by the issuer’s own key and algorithm', async () => {
    const rig = await Rig.started();
    const good = rig.issuer.sign({ sub: 'alice' });
    const [header = '', payload = '', signature = ''] = good.split('.');
    const none = encode({ alg: 'none', kid: 'one' });
    // The public key as the secret of an HMAC: what a verifier falls for that lets the token choose.
    const hmacHead = encode({ alg: 'HS256', kid: 'one' });
    const hmac = createHmac('sha256', rig.issuer.publicPem('one'))
      .update(`${hmacHead}.${payload}`)
      .digest('base64url');
    const stranger = new TokenIssuer(ISSUER);
    stranger.addKey('one');
    const mallory = encode({
      ...(JSON.parse(Buffer.from(payload, 'base64url').toString()) as object),
      sub: 'root',
    });
    const cases: readonly (readonly [token: string, reason: string])[] = [
      [`${none}.${payload}.`, 'token_refused'],
      [`${encode({ alg: 'None', kid: 'one' })}.${payload}.`, 'token_refused'],
      [`${hmacHead}.${payload}.${hmac}`, 'token_refused'],
      [stranger.sign({ sub: 'alice' }), 'signature_invalid'],
      [`${header}.${mallory}.${signature}`, 'signature_invalid'],
      [`${header}.${payload}.`, 'signature_invalid'],
      [`${header}.${payload}.AAAA`, 'signature_invalid'],
      [rig.issuer.sign({ sub: 'alice' }, { alg: 'RS256' }), 'token_refused'],
      [rig.issuer.sign({ sub: 'alice' }, { alg: 'PS512' }), 'token_refused'],
      [rig.issuer.sign({ sub: 'alice' }, { crit: ['b64'], b64: false }), 'token_malformed'],
      [rig.issuer.sign({ sub: 'alice' }, { typ: 'logout+jwt' }), 'token_refused'],
      [rig.issuer.sign({ sub: 'alice' }, { kid: undefined as unknown as string }), 'token_refused'],
      [rig.issuer.sign({ sub: 'alice', iss: 'https://evil.example' }), 'issuer_unknown'],
      [rig.issuer.sign({ sub: 'alice', iss: [ISSUER] }), 'issuer_unknown'],
      [rig.issuer.sign({ sub: 'alice', aud: 'warehouse' }), 'audience_wrong'],
      [rig.issuer.sign({ sub: 'alice', aud: [] }), 'audience_wrong'],
      [rig.issuer.sign({ sub: 'alice', aud: undefined }), 'claims_invalid'],
      [rig.issuer.sign({ sub: '' }), 'claims_invalid'],
      [rig.issuer.sign({ sub: 7 }), 'claims_invalid'],
      [rig.issuer.sign({ sub: 'a\nb' }), 'claims_invalid'],
      [rig.issuer.sign({ sub: 'alice', exp: undefined }), 'claims_invalid'],
      [rig.issuer.sign({ sub: 'alice', exp: '4102444800' }), 'claims_invalid'],
      [rig.issuer.sign({ sub: 'alice', exp: 1 }), 'expired'],
      [rig.issuer.sign({ sub: 'alice', nbf: Math.floor(Date.now() / 1000) + 600 }), 'not_yet_valid'],
      [rig.issuer.sign({ sub: 'alice', iat: Math.floor(Date.now() / 1000) + 600 }), 'not_yet_valid'],
      ['', 'token_malformed'],
      [`${good}, Bearer ${good}`, 'token_malformed'],
      [`${good}.x`, 'token_malformed'],
      [rig.issuer.sign({ sub: 'alice', filler: 'x'.repeat(9000) }), 'token_malformed'],
      [`${encode([])}.${payload}.${signature}`, 'token_malformed'],
    ];
    for (const [token, reason] of cases)
      expect(rig.identify(token), token).toMatchObject({ kind: 'unknown', reason });
    // None of them was remembered, nor is the good one hurt.
    expect(rig.identify(good)).toMatchObject({ id: 'corp:alice' });
  });

  test('a user who was known is nobody from the second on that the token ends', async () => {
    const rig = await Rig.started();
    const token = rig.issuer.sign({ sub: 'alice', exp: Math.floor(rig.clock.nowMs() / 1000) + 60 });
    expect(rig.identify(token).kind).toBe('known');
    rig.clock.advance(58_000);
    expect(rig.identify(token).kind).toBe('known');
    rig.clock.advance(2000);
    expect(rig.identify(token)).toEqual(nobody('expired') as DecisionUser);
  });

  test('asks for a key that it does not know, once for many tokens, and knows it the next time', async () => {
    const rig = await Rig.started();
    rig.issuer.addKey('two');
    const token = rig.issuer.sign({ sub: 'alice' }, { kid: 'two' });
    rig.clock.advance(10_000);
    for (let i = 0; i < 100; i++) expect(rig.identify(token)).toEqual(nobody('key_unknown') as DecisionUser);
    await rig.settle();
    expect(rig.reads).toBe(2);
    expect(rig.identify(token)).toMatchObject({ id: 'corp:alice' });
    for (let i = 0; i < 100; i++)
      rig.identify(
        rig.issuer
          .sign({ sub: 'm' }, { kid: 'one' })
          .replace(/^[^.]*/, encode({ alg: 'ES256', kid: `k${i}` })),
      );
    await rig.settle();
    expect(rig.reads).toBe(2);
  });

  test('a key that the issuer took back counts no more, for tokens that were known too', async () => {
    const rig = await Rig.started();
    rig.issuer.addKey('two');
    const token = rig.issuer.sign({ sub: 'alice' }, { kid: 'one' });
    expect(rig.identify(token).kind).toBe('known');
    rig.issuer.removeKey('one');
    rig.clock.advance(300_000);
    await rig.settle();
    expect(rig.identify(token)).toEqual(nobody('key_unknown') as DecisionUser);
  });

  test('keys that cannot be read hold for their greatest age and no longer, and nobody is known without any', async () => {
    const rig = new Rig();
    rig.isReachable = false;
    await rig.users.start();
    const token = rig.issuer.sign({ sub: 'alice', exp: Math.floor(Date.now() / 1000) + 86_400 });
    expect(rig.identify(token)).toEqual(nobody('keys_unavailable') as DecisionUser);
    expect(rig.users.status).toEqual([
      { name: 'corp', keys: 0, readAtMs: undefined, failure: 'it is not there' },
    ]);
    rig.isReachable = true;
    rig.clock.advance(1000);
    await rig.settle();
    expect(rig.identify(token)).toMatchObject({ id: 'corp:alice' });
    rig.isReachable = false;
    for (let minute = 0; minute < 59; minute++) {
      rig.clock.advance(60_000);
      await rig.settle();
      expect(rig.identify(token).kind).toBe('known');
    }
    rig.clock.advance(120_000);
    await rig.settle();
    expect(rig.identify(token)).toEqual(nobody('keys_unavailable') as DecisionUser);
    expect(rig.users.status).toMatchObject([{ name: 'corp', keys: 0, failure: 'it is not there' }]);
  });

  test('a set that cannot be read leaves the old keys', async () => {
    const rig = await Rig.started();
    const token = rig.issuer.sign({ sub: 'alice' });
    rig.published = '{"keys":[';
    rig.clock.advance(300_000);
    await rig.settle();
    expect(rig.users.status).toMatchObject([{ keys: 1 }]);
    expect(rig.users.status[0]?.failure).toContain('no JSON object');
    expect(rig.identify(token).kind).toBe('known');
  });

  test('an issuer that takes its last key back has none from then on, until it publishes one', async () => {
    const rig = await Rig.started();
    const token = rig.issuer.sign({ sub: 'alice' });
    for (const published of ['{"keys":[]}', '{"keys":[{"kty":"oct","k":"AAAA","kid":"one"}]}']) {
      expect(rig.identify(token).kind).toBe('known');
      rig.published = published;
      rig.clock.advance(300_000);
      await rig.settle();
      expect(rig.users.status).toMatchObject([{ keys: 0, failure: undefined }]);
      expect(rig.identify(token)).toEqual(nobody('keys_unavailable') as DecisionUser);
      rig.published = undefined;
      rig.clock.advance(300_000);
      await rig.settle();
    }
    expect(rig.identify(token).kind).toBe('known');
  });

  test('remembers so many users at most, and all of them are verified right', async () => {
    const rig = await Rig.started();
    const tokens = Array.from({ length: 5000 }, (_, i) => rig.issuer.sign({ sub: `u${i}` }));
    for (const [i, token] of tokens.entries())
      expect(rig.identify(token)).toMatchObject({ id: `corp:u${i}` });
    expect(rig.outcomes.length).toBe(5000);
    for (const token of tokens.slice(-1000)) rig.identify(token);
    expect(rig.outcomes.length).toBe(5000);
    expect(rig.identify(tokens[0]!)).toMatchObject({ id: 'corp:u0' });
    expect(rig.outcomes.length).toBe(5001);
  }, 60_000);
});
