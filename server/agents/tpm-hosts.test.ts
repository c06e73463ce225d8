import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { DATASTORES, type TestDatastore } from '../../tests/kit/datastore.ts';
import { tpmHosts } from '../datastore/schema.ts';
import { MAX_PENDING_TPM_HOSTS, TpmHosts } from './tpm-hosts.ts';

const ek = (digit: string): string => digit.repeat(64);

describe.each(DATASTORES)('TpmHosts (%s)', (_name, open) => {
  let kept: TestDatastore;
  let hosts: TpmHosts;
  beforeAll(async () => {
    kept = await open();
    hosts = new TpmHosts(kept.datastore);
  });
  afterAll(() => kept.dispose());

  test('a stranger is pending until an operator decides', async () => {
    expect(await hosts.find(ek('1'))).toBeUndefined();
    const noted = await hosts.notePending({ ekHash: ek('1'), hasTrustedCertificate: true });
    expect(noted).toMatchObject({ state: 'pending', name: '', expectedPcrs: {}, decidedBy: null });
    const approved = await hosts.approve({
      ekHash: ek('1'),
      decidedBy: 'me',
      name: 'host-1',
      addresses: ['192.0.2.1', '192.0.2.1'],
      expectedPcrs: { '7': [ek('a')] },
    });
    expect(approved).toMatchObject({ state: 'approved', name: 'host-1', addresses: ['192.0.2.1'] });
    expect(approved.hasTrustedCertificate).toBe(true);
    expect(await hosts.find(ek('1'))).toEqual(approved);
  });

  test('notePending() never lifts a decision', async () => {
    await hosts.approve({ ekHash: ek('2'), decidedBy: 'me' });
    const noted = await hosts.notePending({ ekHash: ek('2'), hasTrustedCertificate: true });
    expect(noted).toMatchObject({ state: 'approved', hasTrustedCertificate: true });
    await hosts.deny({ ekHash: ek('2'), decidedBy: 'me' });
    expect(await hosts.notePending({ ekHash: ek('2'), hasTrustedCertificate: true })).toMatchObject({
      state: 'denied',
    });
  });

  test('deny() keeps what approve() said, remove() forgets it', async () => {
    await hosts.approve({ ekHash: ek('3'), decidedBy: 'me', name: 'host-3' });
    expect(await hosts.deny({ ekHash: ek('3'), decidedBy: 'you' })).toMatchObject({
      state: 'denied',
      name: 'host-3',
      decidedBy: 'you',
    });
    expect((await hosts.list('denied')).map((host) => host.ekHash)).toContain(ek('3'));
    expect(await hosts.remove(ek('3'))).toBe(true);
    expect(await hosts.remove(ek('3'))).toBe(false);
    expect(await hosts.find(ek('3'))).toBeUndefined();
  });

  test('two hosts never have one name, but any number have none', async () => {
    await hosts.approve({ ekHash: ek('4'), decidedBy: 'me', name: 'taken' });
    await hosts.approve({ ekHash: ek('5'), decidedBy: 'me' });
    await hosts.approve({ ekHash: ek('6'), decidedBy: 'me', name: '' });
    expect(hosts.approve({ ekHash: ek('5'), decidedBy: 'me', name: 'taken' })).rejects.toMatchObject({
      code: 'already_exists',
      reason: 'node_name_taken',
    });
  });

  test('notePending() refuses strangers beyond the limit, but not those already known', async () => {
    const waiting = (await hosts.list('pending')).length;
    const strangers = Array.from({ length: MAX_PENDING_TPM_HOSTS - waiting }, (_, i) => ({
      ekHash: i.toString(16).padStart(64, '0'),
      state: 'pending' as const,
      expectedPcrs: {},
      addresses: [],
    }));
    await kept.datastore.write(async ({ db }) => {
      await db.insert(tpmHosts).values(strangers);
    });
    expect(hosts.notePending({ ekHash: ek('e'), hasTrustedCertificate: true })).rejects.toMatchObject({
      code: 'resource_exhausted',
      reason: 'too_many_pending',
    });
    expect(await hosts.notePending({ ekHash: ek('1'), hasTrustedCertificate: true })).toMatchObject({
      state: 'approved',
    });
  });

  test.each([
    [{ ekHash: 'x' }, 'ek_hash_invalid'],
    [{ ekHash: ek('A') }, 'ek_hash_invalid'],
    [{ name: 'a b' }, 'node_name_invalid'],
    [{ name: '..' }, 'node_name_invalid'],
    [{ expectedPcrs: { '24': [ek('a')] } }, 'pcrs_invalid'],
    [{ expectedPcrs: { '07': [ek('a')] } }, 'pcrs_invalid'],
    [{ expectedPcrs: { '7': [] } }, 'pcrs_invalid'],
    [{ expectedPcrs: { '7': ['a'] } }, 'pcrs_invalid'],
    [{ addresses: ['::1'] }, 'address_invalid'],
  ])('approve() refuses %p', async (change, reason) => {
    expect(hosts.approve({ ekHash: ek('9'), decidedBy: 'me', ...change })).rejects.toMatchObject({
      code: 'invalid_argument',
      reason,
    });
  });
});
