import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { openTestPglite, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { JoinTokens } from '../agents/join-tokens.ts';
import { describeNodeAttestor } from './contract.ts';
import { JoinTokenAttestor } from './join-token.ts';
import type { AttestedNode } from './node-attestor.ts';

const wish = { name: 'host-1', ttlSeconds: 600, addresses: ['192.0.2.1'], createdBy: 'me' };
const denied = { code: 'permission_denied', reason: 'join_token_invalid' };

interface Opened extends TestDatastore {
  readonly clock: FakeClock;
  readonly tokens: JoinTokens;
  /** The attestation by itself: what it proves, and the token used up. */
  readonly attest: (token: string) => Promise<AttestedNode>;
}

async function open(): Promise<Opened> {
  const kept = await openTestPglite();
  const clock = new FakeClock();
  const tokens = new JoinTokens({
    datastore: kept.datastore,
    clock,
    trustDomain: TEST_TRUST_DOMAIN,
    randomBytes,
  });
  const attestor = new JoinTokenAttestor(tokens);
  const attest = async (token: string) => {
    const step = await attestor.begin({ type: 'join_token', token }, { csrPublicKeySpki: new Uint8Array(1) });
    if (step.kind !== 'attested') throw new Error('a join token is not challenged');
    await kept.datastore.write(async (transaction) => await step.node.redeem?.(transaction));
    return step.node;
  };
  return { ...kept, clock, tokens, attest };
}

describeNodeAttestor('join token', async () => {
  const { tokens, attest, dispose } = await open();
  const { token } = await tokens.create(wish);
  return { type: 'join_token', attest: () => attest(token), dispose };
});

describe('JoinTokenAttestor', () => {
  let opened: Opened;
  beforeAll(async () => {
    opened = await open();
  });
  afterAll(() => opened.dispose());

  test('lets the host in under the name and addresses of its token, not to come back', async () => {
    const { token } = await opened.tokens.create(wish);
    expect(await opened.attest(token)).toMatchObject({
      name: 'host-1',
      selectors: ['join_token:name:host-1'],
      canReattest: false,
      declaredAddresses: ['192.0.2.1'],
    });
  });

  test('lets one of many in that show the same token at once', async () => {
    const { token } = await opened.tokens.create(wish);
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => opened.attest(token)));
    const rejected = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(rejected.length).toBe(19);
    for (const { reason } of rejected) expect(reason).toMatchObject(denied);
  });

  test('refuses a token that is used, expired or unknown in the same words', async () => {
    const { token: used } = await opened.tokens.create(wish);
    const { token: expired } = await opened.tokens.create(wish);
    await opened.attest(used);
    opened.clock.advance(600_000);
    const refusals = [];
    for (const token of [used, expired, 'unknown', '']) refusals.push(await refusalOf(opened.attest(token)));
    for (const refusal of refusals) expect(refusal).toMatchObject(denied);
    expect(new Set(refusals.map(({ message }) => message)).size).toBe(1);
  });
});
