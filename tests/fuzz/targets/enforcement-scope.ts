import {
  enforcementModeOf,
  parseEnforcementScope,
  splitEnforcementScope,
} from '../../../shared/policy/enforcement.ts';
import { buildSpiffeId, parseSpiffeId, pathOf, trustDomainOf } from '../../../shared/spiffe/spiffe-id.ts';
import { requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Scopes of enforcement: one spelling, which holds what it says and nothing beside it. */
export const target: FuzzTarget = {
  seeds: words(
    'spiffe://example.org/shop/web',
    'spiffe://example.org/shop/*',
    'spiffe://example.org/*',
    `spiffe://${'a'.repeat(255)}/${'b/'.repeat(800)}*`,
  ),
  dictionary: words('spiffe://', '/*', '*', '/', '//', '/../', '**', '?', '\0', '%2a', 'picket/server'),
  maxBytes: 2200,
  check(input) {
    const scope = parseEnforcementScope(input.toString('utf8'));
    const { id, isBelow } = splitEnforcementScope(scope);
    requireSame(parseSpiffeId(id), id, 'the ID that it begins with');
    requireSame(isBelow ? `${id}/*` : id, scope, 'a scope put together again');
    requireSame(parseEnforcementScope(scope), scope, 'a scope parsed again');
    const modes = new Map([[scope, 'audit' as const]]);
    const path = pathOf(id);
    // A path may not be longer than what an ID may be.
    if (path.length > 1500) return 'long';
    const within = (tail: string): string =>
      enforcementModeOf(buildSpiffeId(trustDomainOf(id), `${path}${tail}`), modes);
    requireSame(within('/below'), isBelow ? 'audit' : 'enforce', 'the mode of what stands below');
    if (path !== '') {
      requireSame(enforcementModeOf(id, modes), isBelow ? 'enforce' : 'audit', 'the mode of the ID itself');
      requireThat(within('x') === 'enforce' && within('x/below') === 'enforce', 'it holds its neighbour');
    }
    return `${isBelow ? 'below' : 'one'} ${Math.min(5, path.split('/').length)}`;
  },
};
