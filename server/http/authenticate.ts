import { PicketError } from '../../shared/errors/errors.ts';
import type { OperatorRole } from '../../shared/protocol/operator.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { verifyX509Svid, type VerifiedSvid } from '../../shared/spiffe/x509-svid.ts';
import type { AgentCaller, OperatorCaller } from './caller.ts';
import type { PeerConnection } from './peer-connection.ts';

/** Whether an agent with this certificate is one of ours at this moment. Throws `unauthenticated` if not. */
export type RequireAgent = (nodeId: SpiffeId, certSerial: string) => Promise<void>;

/** An operator as the registry knows it, by the certificate it shows; undefined when unknown, revoked or with another certificate. */
export type FindOperator = (
  spiffeId: SpiffeId,
  certSerial: string,
) => Promise<{ readonly name: string; readonly roles: readonly OperatorRole[] } | undefined>;

export interface Verification {
  /** The bundle of our own trust domain: nobody of another domain is an agent or operator here. */
  readonly bundle: Watched<TrustBundle>;
  readonly clock: Clock;
}

/**
 * The agent at the other end, verified anew for each request, so that the end of its certificate, a changed bundle and a ban count at once, on
 * resumed sessions and old connections too. Throws `unauthenticated`.
 */
export async function authenticateAgent(
  connection: PeerConnection,
  options: Verification & { readonly requireAgent: RequireAgent },
): Promise<AgentCaller> {
  const svid = verifyPeer(connection, options);
  if (identityKindOf(svid.spiffeId) !== 'agent') throw notAccepted(svid, 'an agent');
  await options.requireAgent(svid.spiffeId, svid.serial);
  return { kind: 'agent', actor: svid.spiffeId, certSerial: svid.serial };
}

/** The operator at the other end of TLS, or the process on the local socket. Throws `unauthenticated`. */
export async function authenticateOperator(
  connection: PeerConnection,
  options: Verification & { readonly findOperator: FindOperator },
): Promise<OperatorCaller> {
  const { localUid } = connection;
  if (localUid !== undefined) return { kind: 'local', actor: `local:uid:${localUid}`, uid: localUid };
  const svid = verifyPeer(connection, options);
  if (identityKindOf(svid.spiffeId) !== 'operator') throw notAccepted(svid, 'an operator');
  const operator = await options.findOperator(svid.spiffeId, svid.serial);
  if (operator === undefined)
    throw new PicketError(
      'unauthenticated',
      'operator_unknown',
      `The certificate of ${svid.spiffeId} is not that of an operator, or is revoked`,
    );
  return { kind: 'operator', actor: svid.spiffeId, ...operator };
}

function verifyPeer(connection: PeerConnection, options: Verification): VerifiedSvid {
  if (connection.peerChain.length === 0)
    throw new PicketError('unauthenticated', 'certificate_missing', 'This path needs a client certificate');
  const bundle = options.bundle.current;
  const svid = verifyX509Svid(
    connection.peerChain,
    new Map([[bundle.trustDomain, bundle]]),
    options.clock.nowMs(),
  );
  return svid;
}

function notAccepted(svid: VerifiedSvid, expected: string): PicketError {
  return new PicketError(
    'unauthenticated',
    'identity_not_accepted',
    `${svid.spiffeId} is not ${expected} of this trust domain`,
  );
}
