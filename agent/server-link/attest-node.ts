import { createHash } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  attestAnswer,
  type AttestAnswer,
  type AttestRequest,
  type ChallengeResponse,
  type IssuedSvid,
} from '../../shared/protocol/attestation.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { fromWireBundle } from '../../shared/spiffe/wire-bundle.ts';
import { buildCsr, type KeyPair } from '../identity/key-pair.ts';
import type { NodeProver } from '../node-attestation/node-prover.ts';
import type { ServerConnection } from './connection.ts';
import { requestJson } from './read-answer.ts';

/** What the server gives an agent that proved its host, or that renews. */
export interface IssuedIdentity {
  readonly svid: IssuedSvid;
  readonly bundle: TrustBundle;
}

export interface AttestOptions {
  readonly prover: NodeProver;
  /** The key that the SVID will be for. */
  readonly keyPair: KeyPair;
  readonly agentVersion: string;
  /** Addresses that the host claims. */
  readonly addresses: readonly string[];
}

/**
 * Proves the host to the server at the other end of `connection`. The proof is bound to the certificate that this very connection showed, and
 * the whole exchange runs on it. Throws what the server's problem says (`unauthenticated`, `permission_denied`), or `unavailable`.
 */
export async function attestNode(
  connection: ServerConnection,
  options: AttestOptions,
): Promise<IssuedIdentity> {
  const { prover, keyPair, agentVersion, addresses } = options;
  try {
    const body: AttestRequest = {
      csr: Buffer.from(buildCsr(keyPair)).toString('base64'),
      payload: await prover.payload(),
      agentVersion,
      addresses: [...addresses],
    };
    const first = await post(connection, '/v1/attest', body);
    if (first.kind === 'attested') return issued(first);
    const payload = await prover.respond(first.challenge, {
      csrPublicKeySpki: keyPair.publicKeySpki,
      serverCertificateSha256: createHash('sha256').update(connection.serverCertificate).digest(),
    });
    const path = `/v1/attest/${encodeURIComponent(first.session)}`;
    const second = await post(connection, path, { payload });
    if (second.kind === 'attested') return issued(second);
    throw new PicketError('unavailable', 'bad_answer', 'The server challenges a second time: it should not');
  } finally {
    await prover.close();
  }
}

async function post(
  connection: ServerConnection,
  path: string,
  body: AttestRequest | ChallengeResponse,
): Promise<AttestAnswer> {
  return await requestJson(connection, { method: 'POST', path, body }, attestAnswer);
}

function issued(answer: Extract<AttestAnswer, { kind: 'attested' }>): IssuedIdentity {
  return { svid: answer.svid, bundle: fromWireBundle(answer.bundle) };
}
