import { PicketError } from '../../shared/errors/errors.ts';
import type { PolicyFault, PolicyRefusal } from './policy-compiler.ts';

const MAX_FAULTS = 50;

/** The error of a refused policy: the message names the first fault, `details.faults` the first fifty. */
export function refusePolicy(reason: PolicyRefusal, faults: readonly PolicyFault[]): PicketError {
  const [first] = faults;
  const place = first === undefined || first.file === '' ? '' : ` ${first.file}:${first.line}:`;
  const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : '';
  return new PicketError(
    'invalid_argument',
    reason,
    `The policy is refused:${place} ${first?.message ?? reason}${more}`,
    { details: { faults: faults.slice(0, MAX_FAULTS) } },
  );
}
