import { expect, test } from 'bun:test';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { MemoryStore } from '../key-store/memory.ts';
import { makeDomain, makeIdentity } from '../workload-api/fixtures/workload-rig.ts';
import { EMPTY_SYNC_STATE, type SyncState } from '../server-link/sync-state.ts';
import { IdentityStore } from './identity-store.ts';
import { generateP256Key } from './key-pair.ts';

const TRUST_DOMAIN = parseTrustDomain('example.org');

test('IdentityStore reads nothing where nothing was written', async () => {
  const store = new IdentityStore(new MemoryStore());
  expect(await store.readAgentSvid()).toBeUndefined();
  expect((await store.readWorkloadSvids()).size).toBe(0);
  expect(await store.readSyncState(TRUST_DOMAIN)).toBe(EMPTY_SYNC_STATE);
});

test('IdentityStore reads back what was written', async () => {
  const store = new IdentityStore(new MemoryStore());
  const domain = await makeDomain('example.org');
  const { svid, entry } = await makeIdentity(domain, '/web');
  await store.writeAgentSvid(svid);
  await store.writeWorkloadSvids(new Map([[entry.entryId, { revision: 3, svid }]]));
  const state: SyncState = {
    ...EMPTY_SYNC_STATE,
    position: { epoch: 'e', cursor: 5 },
    bundles: new Map([[TRUST_DOMAIN, domain.bundle]]),
  };
  await store.writeSyncState(state);
  expect(await store.readAgentSvid()).toEqual(svid);
  expect(await store.readWorkloadSvids()).toEqual(new Map([[entry.entryId, { revision: 3, svid }]]));
  expect(await store.readSyncState(TRUST_DOMAIN)).toEqual(state);
});

test('IdentityStore does not take what the server has not told for an empty answer', async () => {
  const store = new IdentityStore(new MemoryStore());
  const { bundle } = await makeDomain('example.org');
  const state: SyncState = { ...EMPTY_SYNC_STATE, bundles: new Map([[TRUST_DOMAIN, bundle]]) };
  await store.writeSyncState(state);
  const read = await store.readSyncState(TRUST_DOMAIN);
  expect(read.position).toBeUndefined();
  expect(read.bundles).toEqual(state.bundles);
});

test('IdentityStore refuses an SVID whose key cannot be read, or is another', async () => {
  const sealed = new MemoryStore();
  const store = new IdentityStore(sealed);
  const { svid } = await makeIdentity(await makeDomain('example.org'), '/web');
  const chain = svid.chain.map((der) => Buffer.from(der).toString('base64'));
  const other = Buffer.from((await generateP256Key()).privateKeyPkcs8).toString('base64');
  for (const privateKey of ['AAAA', other]) {
    await sealed.write('agent-svid', Buffer.from(JSON.stringify({ chain, privateKey })));
    expect((await refusalOf(store.readAgentSvid())).reason).toBe('svid_unusable');
  }
});

test('IdentityStore keeps the key of an attestation until its certificate is there', async () => {
  const store = new IdentityStore(new MemoryStore());
  expect(await store.readAttestationKey()).toBeUndefined();
  const key = await generateP256Key();
  await store.writeAttestationKey(key);
  expect(await store.readAttestationKey()).toEqual(key);
  await store.writeAgentSvid((await makeIdentity(await makeDomain('example.org'), '/web')).svid);
  expect(await store.readAttestationKey()).toBeUndefined();
});

test.each(['agent-svid', 'workload-svids', 'sync-state'])(
  'IdentityStore refuses a value of %s that it does not know',
  async (name) => {
    const sealed = new MemoryStore();
    const store = new IdentityStore(sealed);
    const reading: Record<string, () => Promise<unknown>> = {
      'agent-svid': async () => await store.readAgentSvid(),
      'workload-svids': async () => await store.readWorkloadSvids(),
      'sync-state': async () => await store.readSyncState(TRUST_DOMAIN),
    };
    for (const value of ['{"from":"the future"}', '{', '']) {
      await sealed.write(name, Buffer.from(value));
      expect(await refusalOf(reading[name]!())).toMatchObject({
        code: 'failed_precondition',
        reason: 'state_unknown',
      });
    }
  },
);
