import { expect, test } from 'bun:test';
import { joinTokenPayload } from '../../shared/protocol/attestation.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { JoinTokenProver } from './join-token.ts';

test('JoinTokenProver sends its token, cannot attest again and refuses a challenge', async () => {
  const prover = new JoinTokenProver('s3cret');
  expect(joinTokenPayload.parse(await prover.payload())).toEqual({ type: 'join_token', token: 's3cret' });
  expect(prover.canReattest).toBe(false);
  expect(await refusalOf(prover.respond())).toMatchObject({ reason: 'challenge_unexpected' });
  await prover.close();
});
