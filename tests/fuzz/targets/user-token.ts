import { userOfClaims } from '../../../agent/users/user-claims.ts';
import { parseKeySet } from '../../../agent/users/key-set.ts';
import { MAX_JWS_CHARACTERS, parseCompactJws } from '../../../shared/wire/compact-jws.ts';
import { attempt, outcomeOfRefusal, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const RULES = { name: 'corp', issuer: 'i', audiences: ['a'] };
const NOW_MS = 1_800_000_000_000;

/** Tokens of users, and sets of keys: one spelling of a token, and no user but of the right issuer, audience and time. */
export const target: FuzzTarget = {
  seeds: words(
    `${encode({ alg: 'ES256', kid: 'k', typ: 'JWT' })}.${encode({ iss: 'i', aud: 'a', sub: 's', exp: 1_900_000_000 })}.AAEC`,
    `${encode({ alg: 'none' })}.${encode({ iss: 'i', aud: ['a', 'b'], sub: 's', exp: 1_900_000_000, nbf: 1, groups: ['g'] })}.`,
    JSON.stringify({ iss: 'i', aud: ['a'], sub: 's', exp: 1_900_000_000.5, iat: 1, groups: ['g'] }),
    '{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}',
    '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"2","alg":"EdDSA","use":"sig"}]}',
  ),
  dictionary: words(
    '.',
    '=',
    '"crit"',
    '"alg"',
    '"none"',
    '"kid"',
    '"typ"',
    '"iss"',
    '"aud"',
    '"exp"',
    '1e400',
    '-1',
    'null',
    '[]',
    '{}',
    '"__proto__"',
    '"d"',
    '"oct"',
    '\\u0000',
    '\\ud800',
  ),
  maxBytes: MAX_JWS_CHARACTERS + 64,
  check(input) {
    const text = input.toString('utf8');
    const jws = attempt(() => parseCompactJws(text));
    if (jws.value !== undefined) {
      const { signingInput, signature } = jws.value;
      const again = `${Buffer.from(signingInput).toString()}.${Buffer.from(signature).toString('base64url')}`;
      requireSame(again, text, 'the token put together again');
    }
    const keys = attempt(() => parseKeySet(text));
    for (const [kid, { key }] of keys.value ?? [])
      requireThat(kid !== '' && key.type === 'public', 'a key that is not public');
    const claims = jws.value?.payload ?? findObject(text);
    const user = claims === undefined ? undefined : userOfClaims(claims, RULES, NOW_MS);
    if (user?.kind === 'known') {
      requireThat(user.issuer === 'i' && user.audience.includes('a'), 'a user of another issuer or audience');
      requireThat(
        user.expiresMs > NOW_MS && user.id === `corp:${user.subject}`,
        'a user whose token has ended',
      );
    }
    const ways = [jws, keys].map(({ refusal }) =>
      refusal === undefined ? 'read' : outcomeOfRefusal(refusal),
    );
    return `${ways.join(' ')} ${user?.kind === 'unknown' ? user.reason : user?.kind}`;
  },
};

function findObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null
      ? (value as Readonly<Record<string, unknown>>)
      : undefined;
  } catch {
    return undefined;
  }
}
