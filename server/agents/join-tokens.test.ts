import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { DATASTORES, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { joinTokens } from '../datastore/schema.ts';
import { JoinTokens, MAX_JOIN_TOKEN_TTL_SECONDS, type RedeemedToken } from './join-tokens.ts';

/** Whose key it is does not matter where the token is not used yet. */
const KEY = Uint8Array.of(1, 2, 3);

describe.each(DATASTORES)('JoinTokens (%s)', (_name, open) => {
  let kept: TestDatastore;
  let tokens: JoinTokens;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    const { datastore } = kept;
    tokens = new JoinTokens({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN, randomBytes });
  });
  afterAll(() => kept.dispose());

  const redeem = async (token: string, key: Uint8Array = KEY): Promise<RedeemedToken | undefined> =>
    await kept.datastore.write(async (transaction) => await tokens.redeem(transaction, token, key));

  const wish = { name: 'host-a', ttlSeconds: 600, addresses: ['::ffff:192.0.2.1'], createdBy: 'me' };

  test('create() shows 32 random bytes once and keeps their hash alone', async () => {
    const { token } = await tokens.create(wish);
    expect(Buffer.from(token, 'base64url').length).toBe(32);
    const rows = await kept.datastore.db.select().from(joinTokens);
    expect(JSON.stringify(rows)).not.toContain(token);
    expect(await tokens.list()).toMatchObject([{ name: 'host-a', addresses: ['192.0.2.1'] }]);
  });

  test('redeem() gives a token to exactly one of many that race', async () => {
    const { token, kept } = await tokens.create(wish);
    expect(await tokens.find(token)).toEqual(kept);
    const results = await Promise.all(Array.from({ length: 20 }, () => redeem(token)));
    expect(results.filter((result) => result !== undefined)).toEqual([{ replacedSerial: undefined }]);
    expect(await redeem(token)).toBeUndefined();
    expect(await tokens.find(token)).toEqual({ ...kept, usedAt: new Date(clock.nowMs()) });
  });

  test('redeem() leaves a token as it was where the transaction fails', async () => {
    const { token } = await tokens.create(wish);
    const failed = kept.datastore.write(async (transaction) => {
      await tokens.redeem(transaction, token, KEY);
      throw new RangeError('on purpose');
    });
    await failed.catch(() => undefined);
    expect(await redeem(token)).toBeDefined();
  });

  test('redeem() refuses a token from its last millisecond on, and one that nobody made', async () => {
    const { token } = await tokens.create(wish);
    const { token: other } = await tokens.create(wish);
    clock.advance(600_000 - 1);
    expect(await redeem(token)).toBeDefined();
    clock.advance(1);
    expect(await redeem(other)).toBeUndefined();
    expect(await redeem('')).toBeUndefined();
    expect(await redeem(Buffer.alloc(32).toString('base64url'))).toBeUndefined();
    expect(await tokens.list()).toEqual([]);
  });

  test('revoke() and prune() end tokens', async () => {
    const { token, kept } = await tokens.create(wish);
    expect(await tokens.revoke(kept.tokenHash)).toBe(true);
    expect(await tokens.revoke(kept.tokenHash)).toBe(false);
    expect(await redeem(token)).toBeUndefined();
    await tokens.create(wish);
    expect(await tokens.prune(clock.nowMs() + 600_001)).toBeGreaterThan(1);
    expect(await tokens.prune(clock.nowMs() + 600_001)).toBe(0);
  });

  test.each([
    [{ name: '' }, 'node_name_invalid'],
    [{ name: 'a/b' }, 'node_name_invalid'],
    [{ name: '..' }, 'spiffe_id_invalid'],
    [{ ttlSeconds: 0 }, 'ttl_invalid'],
    [{ ttlSeconds: MAX_JOIN_TOKEN_TTL_SECONDS + 1 }, 'ttl_invalid'],
    [{ ttlSeconds: Number.NaN }, 'ttl_invalid'],
    [{ addresses: ['127.0.0.1'] }, 'address_invalid'],
  ])('create() refuses %p', async (change, reason) => {
    expect(tokens.create({ ...wish, ...change })).rejects.toMatchObject({
      code: 'invalid_argument',
      reason,
    });
  });
});
