import { expect, test } from 'bun:test';
import { describeNodeProver } from './contract.ts';
import { JoinTokenProver } from './join-token.ts';

describeNodeProver('join token', () =>
  Promise.resolve({ prover: new JoinTokenProver('s3cret'), dispose: () => Promise.resolve() }),
);

test('JoinTokenProver sends its token and cannot attest again', async () => {
  const prover = new JoinTokenProver('s3cret');
  expect(await prover.payload()).toEqual({ type: 'join_token', token: 's3cret' });
  expect(prover.canReattest).toBe(false);
});
