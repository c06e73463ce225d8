import { z } from 'zod';
import { addressKey } from '../../../../shared/runtime/address-key.ts';
import { PicketError } from '../../../../shared/errors/errors.ts';
import {
  attestAnswer,
  attestRequest,
  challengeResponse,
  wireBundle,
  type WireBundle,
} from '../../../../shared/protocol/attestation.ts';
import type { NodeAttestation } from '../../../node-attestation/node-attestation.ts';
import { jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { UnprovenCaller } from '../../caller.ts';
import type { RateLimit } from '../../limits.ts';
import { routesFor, type RequestContext, type Route } from '../../route.ts';

export interface AttestationRouteOptions {
  readonly attestation: NodeAttestation;
  readonly bundle: () => WireBundle;
  /** Attempts of each address. */
  readonly attempts: RateLimit;
}

const TAG = 'attestation';
const defineRoute = routesFor<UnprovenCaller>();

/** What a host may ask before anything of it is known. */
export function attestationRoutes({
  attestation,
  bundle,
  attempts,
}: AttestationRouteOptions): readonly Route<UnprovenCaller>[] {
  const requireAttempt = ({ remoteAddress }: RequestContext<UnprovenCaller>): void => {
    if (attempts.tryTake(addressKey(remoteAddress))) return;
    throw new PicketError(
      'resource_exhausted',
      'too_many_attempts',
      'Too many attestation attempts from this address',
    );
  };
  return [
    defineRoute({
      method: 'POST',
      path: '/v1/attest',
      action: 'node.attest',
      tag: TAG,
      summary: 'Begin to attest a host',
      body: jsonBody(attestRequest),
      answer: jsonAnswer(attestAnswer),
      handle: async ({ body }, context) => {
        requireAttempt(context);
        return await attestation.begin(body, { serverCertificateSha256: requireTls(context) });
      },
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/attest/:session',
      action: 'node.attest.respond',
      tag: TAG,
      summary: 'Answer the challenge of an attestation',
      params: z.object({ session: z.string().max(64) }),
      body: jsonBody(challengeResponse),
      answer: jsonAnswer(attestAnswer),
      handle: async ({ params, body }, context) => {
        requireAttempt(context);
        return await attestation.respond(params.session, body);
      },
    }),
    defineRoute({
      method: 'GET',
      path: '/v1/bundle',
      action: 'bundle.read',
      tag: TAG,
      summary:
        'The trust bundle of the server’s own trust domain, for hosts that were given the hash of the root’s key',
      answer: jsonAnswer(wireBundle),
      handle: () => bundle(),
    }),
  ];
}

function requireTls(context: RequestContext<UnprovenCaller>): Uint8Array {
  if (context.serverCertificateSha256 !== undefined) return context.serverCertificateSha256;
  throw new PicketError('failed_precondition', 'tls_missing', 'Hosts attest over TLS');
}
