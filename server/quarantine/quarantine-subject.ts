import { PicketError } from '../../shared/errors/errors.ts';
import type { QuarantineKind } from '../../shared/protocol/quarantine.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import { pathOf, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';

/** Which quarantine is meant. */
export interface QuarantineKey {
  readonly kind: QuarantineKind;
  /** The workload, the node's agent, or the ID that the segment begins with. */
  readonly subject: SpiffeId;
}

const EXPECTED: Readonly<Record<QuarantineKind, string>> = {
  workload: 'the SPIFFE ID of a workload is expected',
  node: 'the SPIFFE ID of an agent is expected, as picket node list shows it',
  segment: 'the SPIFFE ID that the segment begins with is expected, or that of a trust domain',
};

/**
 * Refuses a subject that could never hold anybody: it would look like a quarantine and be none. Throws `invalid_argument`, reason
 * `quarantine_subject_invalid`.
 */
export function requireQuarantineSubject({ kind, subject }: QuarantineKey): void {
  const found = identityKindOf(subject);
  const isFit =
    kind === 'node'
      ? found === 'agent'
      : found === 'workload' || (kind === 'segment' && pathOf(subject) === '');
  if (isFit) return;
  throw new PicketError(
    'invalid_argument',
    'quarantine_subject_invalid',
    `Cannot quarantine the ${kind} "${subject}": ${EXPECTED[kind]}`,
  );
}
