import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { checkerOf, when, type Check } from './check.ts';

const check = checkerOf('agent');

/** Whether the keys of every issuer of user tokens are there: without them its users are nobody. */
export function checkUsers(issuers: StatusAnswer['userIssuers']): Check {
  const [without] = issuers.filter(({ keys }) => keys === 0);
  const [stale] = issuers.filter(({ failure }) => failure !== undefined);
  const advice = 'see users.issuers in agent.yaml; the agent’s log tells of each try (user_keys_not_read)';
  return check(
    'users',
    issuers.length === 0
      ? 'no issuer of user tokens is configured'
      : issuers.map(({ name, keys }) => `${name}: ${keys} keys`).join(', '),
    when(
      without !== undefined,
      'fail',
      `no keys of ${without?.name}: its users are nobody. ${without?.failure ?? ''}`,
      advice,
    ),
    when(
      stale !== undefined,
      'warn',
      `keys of ${stale?.name} are of ${stale?.readAt ?? 'never'}: ${stale?.failure}`,
      advice,
    ),
  );
}
