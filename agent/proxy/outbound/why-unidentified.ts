import type { ProcessIdentity } from '../../workload-attestation/process-identity.ts';

const WHY: Readonly<Record<Extract<ProcessIdentity, { kind: 'unidentified' }>['why'], string>> = {
  no_holder: 'no process holds the connection any more',
  holders_differ: 'several processes hold the connection, and they differ',
  no_entry: 'no registration entry matches the process',
  ambiguous_entry: 'several registration entries match the process, and none is the most specific',
  changed: 'the process changed while it was looked at',
  limit: 'too much is being looked at',
};

/** Why a process cannot call as anybody, in words for people. */
export function whyUnidentified(identity: ProcessIdentity): string {
  if (identity.kind === 'identified')
    return `The certificate of ${identity.spiffeId} is not there yet, or has ended`;
  return `The calling process has no identity: ${WHY[identity.why]}`;
}
