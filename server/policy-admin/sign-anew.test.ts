import { expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { createLog } from '../../shared/runtime/log.ts';
import type { PolicyTargetName } from './policy-target.ts';
import { signPoliciesAnew } from './sign-anew.ts';

test('signPoliciesAnew() goes on with the next policy when one cannot be signed again, and tells both', async () => {
  const lines: string[] = [];
  const log = createLog({ level: 'info', nowMs: () => 0, write: (line) => void lines.push(line) });
  const signAnew = (target: PolicyTargetName): Promise<boolean> =>
    target === 'mesh'
      ? Promise.reject(new PicketError('unauthenticated', 'certificate_expired', 'It has ended'))
      : Promise.resolve(true);
  await signPoliciesAnew({ signAnew }, log);
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { event: 'policy_not_signed_anew', target: 'mesh', reason: 'certificate_expired' },
    { event: 'policy_signed_anew', target: 'admin' },
  ]);
});
