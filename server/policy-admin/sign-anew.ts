import { toPicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { PolicyAdmin } from './policy-admin.ts';
import { POLICY_TARGETS, type PolicyTargetName } from './policy-target.ts';

/**
 * For the start of a server, whose policy signer may be a new one: signs what is in force again (`PolicyAdmin.signAnew`). What cannot be signed again is told in the log and
 * stays as it is: operators may publish it again, and hosts go on with what they hold.
 */
export async function signPoliciesAnew(policies: Pick<PolicyAdmin, 'signAnew'>, log: Log): Promise<void> {
  for (const target of Object.keys(POLICY_TARGETS) as PolicyTargetName[])
    try {
      if (await policies.signAnew(target)) log.info('policy_signed_anew', { target });
    } catch (error) {
      const { reason } = toPicketError(error);
      log.error('policy_not_signed_anew', { target, reason, error });
    }
}
