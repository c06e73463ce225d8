import { Code, ConnectError } from '@connectrpc/connect';
import { toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { Quarantine } from '../quarantine/quarantine.ts';
import type { ProcessIdentifier } from '../workload-attestation/process-identity.ts';
import { Changes } from './changes.ts';
import { buildEntitlement, type Entitlement } from './entitlement.ts';
import type { Caller } from './caller.ts';

/** What the answers are made of. */
export interface EntitlementSources {
  readonly identities: IdentitySource;
  readonly processes: ProcessIdentifier;
  readonly quarantine: Pick<Quarantine, 'holdsOwn' | 'watch'>;
  /** How often each stream looks whether its process is still the same, in milliseconds. */
  readonly recheckMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** One kind of answer. */
export interface Answer<Desc extends DescMessage> {
  readonly schema: Desc;
  readonly build: (entitlement: Entitlement) => MessageShape<Desc>;
}

/** How often a process that changes under our eyes is looked at again before the caller is told to come back. */
const MAX_LOOKS = 3;

/**
 * The complete state at once and again after each change of it (SPIFFE_Workload_API.md 4.3). Throws PermissionDenied when the process has no
 * identity, has lost its last one or has ended, and Unavailable when that cannot be told at the moment.
 */
export async function* streamEntitlement<Desc extends DescMessage>(
  sources: EntitlementSources,
  { caller, signal }: { readonly caller: Caller; readonly signal: AbortSignal },
  answer: Answer<Desc>,
): AsyncGenerator<MessageShape<Desc>> {
  const { identities } = sources.identities;
  const { bundles } = sources.identities;
  const changes = new Changes({
    sources: [
      (listener) => identities.watch(listener),
      (listener) => bundles.watch(listener),
      (listener) => sources.quarantine.watch(listener),
    ],
    signal,
    clock: sources.clock,
  });
  let last: Uint8Array | undefined;
  try {
    while (!signal.aborted) {
      const { entitlement, isSame } = await resolveEntitlement(sources, caller);
      const message = answer.build(entitlement);
      const bytes = toBinary(answer.schema, message);
      if (last === undefined || Buffer.compare(last, bytes) !== 0) yield message;
      last = bytes;
      while (!(await changes.next(sources.recheckMs))) if (!isSame() || !caller.isSame()) break;
    }
    throw ConnectError.from(signal.reason, Code.Canceled);
  } finally {
    changes.close();
  }
}

interface Resolved {
  readonly entitlement: Entitlement;
  readonly isSame: () => boolean;
}

async function resolveEntitlement(sources: EntitlementSources, caller: Caller): Promise<Resolved> {
  for (let look = 0; look < MAX_LOOKS; look++) {
    const { entryIds, spiffeIds, isSame } = await findEntries(sources, caller);
    // In this order: a pid that still means the process that connected, being what it was then, and facts that were still that process's then.
    if (!caller.isSame()) throw denied('The process that connected has ended, or is another one now');
    if (!isSame()) continue;
    // By one of his identities: it is the process that is held. What he got before is refused by the others, for it cannot be taken back.
    if (spiffeIds.some((id) => sources.quarantine.holdsOwn(id)))
      throw denied('This process is in quarantine');
    const entitlement = buildEntitlement(entryIds, {
      identities: sources.identities.identities.current,
      bundles: sources.identities.bundles.current,
    });
    if (entitlement.identities.length === 0) throw denied('No identity is registered for this process');
    return { entitlement, isSame };
  }
  throw unavailable('The process changes while it is looked at');
}

async function findEntries(
  { processes, log }: EntitlementSources,
  { pid }: Caller,
): ReturnType<ProcessIdentifier['identitiesOf']> {
  try {
    return await processes.identitiesOf(pid);
  } catch (cause) {
    const error = toPicketError(cause);
    if (error.code === 'not_found') throw denied('The process that connected has ended');
    log.error('workload_not_identified', { pid, error });
    throw unavailable('The process cannot be identified at the moment');
  }
}

function denied(message: string): ConnectError {
  return new ConnectError(message, Code.PermissionDenied);
}

function unavailable(message: string): ConnectError {
  return new ConnectError(message, Code.Unavailable);
}
