import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { attestRequest, type AttestAnswer } from '../../shared/protocol/attestation.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import type { NodeProver } from './node-prover.ts';

/** What every adapter of `NodeProver` promises. `open` gives a prover on a host that can prove itself. */
export function describeNodeProver(
  name: string,
  open: () => Promise<{ readonly prover: NodeProver; readonly dispose: () => Promise<void> }>,
): void {
  describe(`NodeProver (${name})`, () => {
    let prover: NodeProver;
    let dispose: () => Promise<void>;
    beforeAll(async () => {
      ({ prover, dispose } = await open());
    });
    afterAll(() => dispose());

    test('payload() is what the protocol expects, the same each time, also after close()', async () => {
      const payload = await prover.payload();
      expect(attestRequest.shape.payload.parse(payload)).toEqual(payload);
      expect(await prover.payload()).toEqual(payload);
      await prover.close();
      expect(await prover.payload()).toEqual(payload);
      await prover.close();
    });

    test('respond() refuses a challenge that nobody asked for', async () => {
      await prover.close();
      const challenge: Extract<AttestAnswer, { kind: 'challenge' }>['challenge'] = {
        type: 'tpm',
        credentialBlob: '',
        encryptedSecret: '',
        nonce: Buffer.alloc(32).toString('base64'),
        pcrs: [0],
      };
      const context = { csrPublicKeySpki: new Uint8Array(91), serverCertificateSha256: new Uint8Array(32) };
      expect((await refusalOf(prover.respond(challenge, context))).reason).toBe('challenge_unexpected');
    });

    test('close() may be called again', async () => {
      await prover.close();
      await prover.close();
    });
  });
}
