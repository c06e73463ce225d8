import { describe, expect, test } from 'bun:test';
import type { HeldSvid } from '../../identity/identity.ts';
import { CALLER, makeAuthority, makeSvid, TARGET, TestIdentities } from '../fixtures/mesh-rig.ts';
import { ServerContexts } from './server-contexts.ts';

describe('ServerContexts', () => {
  test('keeps one for each certificate as long as that is in use', async () => {
    const authority = await makeAuthority();
    const first = await makeSvid(TARGET, authority);
    const renewed = await makeSvid(TARGET, authority);
    const other = await makeSvid(CALLER, authority);
    const identities = new TestIdentities(first, authority);
    const contexts = new ServerContexts();
    const serve = (...svids: readonly HeldSvid[]): void => {
      identities.serve(...svids);
      contexts.identitiesChanged(identities.identities.current);
    };
    const ofFirst = contexts.of(first);
    const ofOther = contexts.of(other);
    expect(ofFirst).not.toBe(ofOther);
    serve({ ...first }, other);
    expect(contexts.of({ ...first })).toBe(ofFirst);
    serve(renewed, other);
    expect(contexts.of(renewed)).not.toBe(ofFirst);
    expect(contexts.of(first)).not.toBe(ofFirst);
    expect(contexts.of(other)).toBe(ofOther);
  });

  test('refuses a key that is not of the certificate', async () => {
    const authority = await makeAuthority();
    const { privateKeyPem } = await makeSvid(TARGET, authority);
    const svid = { ...(await makeSvid(TARGET, authority)), privateKeyPem };
    expect(() => new ServerContexts().of(svid)).toThrow();
  });
});
