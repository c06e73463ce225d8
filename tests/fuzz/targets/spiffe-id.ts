import { identityKindOf } from '../../../shared/spiffe/reserved-path.ts';
import { buildSpiffeId, parseSpiffeId, pathOf, trustDomainOf } from '../../../shared/spiffe/spiffe-id.ts';
import { requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** SPIFFE IDs: one spelling, which its parts build again and which a URL parser takes apart alike. */
export const target: FuzzTarget = {
  seeds: words(
    'spiffe://example.org/ns/shop/sa/web',
    'SPIFFE://Example.ORG/a',
    'spiffe://example.org',
    'spiffe://td/picket/agent/tpm/host-1',
    `spiffe://${'a'.repeat(255)}/${'b/'.repeat(800)}c`,
  ),
  dictionary: words(
    'spiffe://',
    '/',
    '//',
    '/./',
    '/../',
    '%2e',
    '@',
    ':80',
    '?a',
    '#a',
    '\u212a',
    '\0',
    ' ',
    'picket/server',
    '_',
    '-',
    '..',
  ),
  maxBytes: 2200,
  check(input) {
    const id = parseSpiffeId(input.toString('utf8'));
    requireSame(parseSpiffeId(id), id, 'an ID parsed again');
    requireSame(buildSpiffeId(trustDomainOf(id), pathOf(id)), id, 'an ID built again');
    requireThat(
      id.length <= 2048 && /^spiffe:\/\/[a-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/.test(id),
      'another spelling',
    );
    const url = URL.parse(id);
    if (url !== null)
      requireSame(
        [url.hostname, url.pathname.replace(/^\/$/, '')],
        [trustDomainOf(id), pathOf(id)],
        'the parts for a URL parser',
      );
    return `${identityKindOf(id)} ${Math.min(5, pathOf(id).split('/').length)}`;
  },
};
