import { toPicketError } from '../../../shared/errors/errors.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { ProcessIdentifier } from '../../workload-attestation/process-identity.ts';
import type { Refusal } from '../judge/judge.ts';

/** Where a program listens, and who it must be by registration. */
export interface ExpectedListener extends InNamespace {
  readonly destination: SocketAddress;
  readonly target: SpiffeId;
}

/** What is wrong with the process that listens there now: it must earn the identity. Undefined: nothing. Never rejects. */
export async function findListenerFault(
  processes: Pick<ProcessIdentifier, 'identifyListener'>,
  { destination, target, namespace }: ExpectedListener,
): Promise<Refusal | undefined> {
  const listener = await processes.identifyListener(destination, target, { namespace });
  if (listener.kind === 'identified' && listener.spiffeId === target) return undefined;
  const reason = 'listener_unidentified';
  if (listener.kind === 'identified') return { reason };
  return { reason, message: `The listening process has no such identity: ${listener.why}` };
}

/** Why an application was not connected, as `InboundCarrier.connect` rejects. */
export function refusalOfApplication(error: unknown): Refusal {
  const { reason, message } = toPicketError(error);
  return { reason: reason === 'listener_unidentified' ? reason : 'application_unreachable', message };
}
