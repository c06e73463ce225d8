import { IdentityStore } from '../../../agent/identity/identity-store.ts';
import { MemoryStore } from '../../../agent/key-store/memory.ts';
import { parseTrustDomain } from '../../../shared/spiffe/trust-domain.ts';
import { JSON_WORDS } from '../json-words.ts';
import { SEEDS } from '../seeds.ts';
import {
  attemptAsync,
  outcomeOfRefusal,
  requireSame,
  requireThat,
  words,
  type FuzzTarget,
} from '../target.ts';

const DOMAIN = parseTrustDomain('example.org');
const ENTRY_ID = '0190a000-0000-7000-8000-000000000001';
const SNAPSHOT = {
  kind: 'snapshot',
  epoch: 'e',
  cursor: 4,
  items: [{ kind: 'bundle', key: 'example.org', value: SEEDS.bundle }],
};

/** What an agent kept of its identities, as another version may have written it: read or refused, and the same when written again. */
export const target: FuzzTarget = {
  seeds: words(
    JSON.stringify(SEEDS.svid),
    JSON.stringify({ [ENTRY_ID]: { revision: 3, svid: SEEDS.svid } }),
    JSON.stringify(SNAPSHOT),
  ),
  dictionary: [
    ...JSON_WORDS,
    ...words('"chain":["', '"privateKey":"', '"revision":', 'AAAA', '=', SEEDS.leaf),
  ],
  maxBytes: 8192,
  async check(input) {
    const values = new MemoryStore();
    for (const name of ['agent-svid', 'workload-svids', 'sync-state']) await values.write(name, input);
    const store = new IdentityStore(values);
    const svid = await attemptAsync(async () => await store.readAgentSvid());
    const workloads = await attemptAsync(async () => await store.readWorkloadSvids());
    const state = await attemptAsync(async () => await store.readSyncState(DOMAIN));
    if (svid.value !== undefined) {
      requireThat(svid.value.chainPem.includes('BEGIN CERTIFICATE'), 'an SVID without a certificate');
      await store.writeAgentSvid(svid.value);
      requireSame(await store.readAgentSvid(), svid.value, 'an SVID read again');
    }
    if (workloads.value !== undefined) {
      await store.writeWorkloadSvids(workloads.value);
      requireSame((await store.readWorkloadSvids()).size, workloads.value.size, 'workloads read again');
    }
    return [svid, workloads, state]
      .map(({ refusal }) => (refusal === undefined ? 'read' : outcomeOfRefusal(refusal)))
      .join(' | ');
  },
};
