import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { MAX_JWS_CHARACTERS, parseCompactJws } from './compact-jws.ts';

/** RFC 7515, appendix A.1. */
const PUBLISHED =
  'eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk';

const encode = (text: string): string => Buffer.from(text).toString('base64url');

describe('parseCompactJws()', () => {
  test('reads the token that RFC 7515 publishes', () => {
    const jws = parseCompactJws(PUBLISHED);
    expect(jws).toMatchObject({
      algorithm: 'HS256',
      keyId: undefined,
      type: 'jwt',
      payload: { iss: 'joe', exp: 1_300_819_380, 'http://example.com/is_root': true },
    });
    expect(Buffer.from(jws.signingInput).toString()).toBe(PUBLISHED.slice(0, PUBLISHED.lastIndexOf('.')));
    expect(jws.signature.length).toBe(32);
  });

  test('reads type and key', () => {
    const { keyId, type } = parseCompactJws(
      `${encode('{"alg":"ES256","kid":"k","typ":"application/AT+JWT"}')}.${encode('{}')}.`,
    );
    expect([keyId, type]).toEqual(['k', 'at+jwt']);
  });

  const header = encode('{"alg":"ES256"}');
  test.each([
    '',
    '..',
    'a.b',
    `${header}.${encode('{}')}`,
    `${header}.${encode('{}')}.AA.AA`,
    `${header}=.${encode('{}')}.AA`,
    // The last two bits are not zero: another spelling of the same byte.
    `${header}.${encode('{}')}.AB`,
    `${header}.${encode('{}')}.A`,
    `${header}.${encode('{}')}.A+`,
    ` ${header}.${encode('{}')}.AA`,
    `${encode('[]')}.${encode('{}')}.AA`,
    `${encode('null')}.${encode('{}')}.AA`,
    `${encode('{}')}.${encode('{}')}.AA`,
    `${encode('{"alg":1}')}.${encode('{}')}.AA`,
    `${encode('{"alg":"ES256","kid":1}')}.${encode('{}')}.AA`,
    `${encode('{"alg":"ES256","kid":null}')}.${encode('{}')}.AA`,
    `${encode('{"alg":"ES256","typ":[]}')}.${encode('{}')}.AA`,
    `${encode('{"alg":"ES256","crit":[]}')}.${encode('{}')}.AA`,
    `${header}.${encode('"text"')}.AA`,
    `${header}.${encode('{')}.AA`,
    `${header}.${Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString('base64url')}.AA`,
    `${header}.${encode(JSON.stringify({ a: 'x'.repeat(MAX_JWS_CHARACTERS) }))}.AA`,
  ])('refuses %p', (text) => {
    expect(reasonOf(() => parseCompactJws(text))).toBe('jws_invalid');
  });
});
