import { beforeAll, describe, expect, test } from 'bun:test';
import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import type { WorkloadIdentity } from '../identity/identity.ts';
import { makeDomain, makeIdentity } from '../workload-api/fixtures/workload-rig.ts';
import { applyChange, findChange, NOTHING_KNOWN, type Knowledge, type KnowledgeChange } from './knowledge.ts';
import { ToldKnowledge } from './told-knowledge.ts';

const DOMAIN = parseTrustDomain('example.org');
const WEB = parseSpiffeId('spiffe://example.org/web');
const NODE = parseSpiffeId('spiffe://example.org/picket/agent/tpm/a');
const QUARANTINE: QuarantineRecord = {
  kind: 'workload',
  subject: WEB,
  reason: 'a test',
  addresses: [],
  serials: ['0a'],
};
const RECORD = { network: '', address: '10.0.0.2', port: 80, spiffeId: WEB } as unknown as DirectoryRecord;

let web: WorkloadIdentity;
let other: WorkloadIdentity;
let full: Knowledge;

beforeAll(async () => {
  const domain = await makeDomain('example.org');
  web = await makeIdentity(domain, '/web');
  other = await makeIdentity(domain, '/other');
  full = {
    isTold: true,
    nodeId: NODE,
    quarantines: new Map([['workload web', QUARANTINE]]),
    bundles: new Map([
      [
        DOMAIN,
        {
          trustDomain: DOMAIN,
          sequence: 3,
          refreshHintSeconds: 60,
          x509Authorities: [web.svid.chain[0] ?? new Uint8Array()],
        },
      ],
    ]),
    directory: new Map([['r', RECORD]]),
    services: new Map([
      ['web', { name: 'web', spiffeId: WEB, port: 80, addresses: [{ address: '10.96.0.1', port: 80 }] }],
    ]),
    places: new Map([[NODE, { nodeId: NODE, locality: 'eu/a', addresses: ['10.0.0.2'] }]]),
    enforcement: new Map([['spiffe://example.org/web' as never, 'audit']]),
    entries: new Map([['1', web.entry]]),
    identities: new Map([['1', web]]),
  };
});

/** As it goes through the channel. */
function carried(change: KnowledgeChange | undefined): KnowledgeChange {
  return JSON.parse(JSON.stringify(change)) as KnowledgeChange;
}

describe('findChange() and applyChange()', () => {
  test('bring everything over, whole', () => {
    const known = applyChange(NOTHING_KNOWN, carried(findChange(NOTHING_KNOWN, full)));
    expect(known).toEqual(full);
  });

  test('say nothing where nothing has changed, also in a map that is another', () => {
    expect(findChange(full, full)).toBeUndefined();
    expect(findChange(full, { ...full, entries: new Map(full.entries) })).toBeUndefined();
  });

  test('say only what has changed, and keep the reference of the rest', () => {
    const known = applyChange(NOTHING_KNOWN, carried(findChange(NOTHING_KNOWN, full)));
    const next: Knowledge = {
      ...full,
      quarantines: new Map(),
      identities: new Map([
        ['1', web],
        ['2', other],
      ]),
    };
    const change = carried(findChange(full, next));
    expect(Object.keys(change).toSorted()).toEqual(['identities', 'isTold', 'nodeId', 'quarantines']);
    expect(change.identities?.put.map(([key]) => key)).toEqual(['2']);
    const after = applyChange(known, change);
    expect(after).toEqual(next);
    expect(after.directory).toBe(known.directory);
    expect(after.identities.get('1')).toBe(known.identities.get('1') as WorkloadIdentity);
  });

  test('bring an end that is earlier than the certificate’s own', () => {
    const early = { ...web, svid: { ...web.svid, notAfterMs: web.svid.notAfterMs - 5000 } };
    const next = { ...full, identities: new Map([['1', early]]) };
    const after = applyChange(NOTHING_KNOWN, carried(findChange(NOTHING_KNOWN, next)));
    expect(after.identities.get('1')?.svid.notAfterMs).toBe(early.svid.notAfterMs);
  });

  test('refuse an SVID with a key that is not its own', () => {
    const mixed = { ...web, svid: { ...web.svid, privateKeyPkcs8: other.svid.privateKeyPkcs8 } };
    const change = carried(findChange(NOTHING_KNOWN, { ...full, identities: new Map([['1', mixed]]) }));
    expect(reasonOf(() => applyChange(NOTHING_KNOWN, change))).toBe('svid_unusable');
  });
});

describe('ToldKnowledge', () => {
  test('tells of a quarantine before anything else of the same change, and of parts only that changed', () => {
    const told = new ToldKnowledge();
    const heard: string[] = [];
    told.quarantines.watch(({ position }) => heard.push(`quarantines ${String(position)}`));
    for (const part of ['bundles', 'directory', 'places', 'services', 'enforcement', 'entries'] as const)
      told.known[part].watch(() => heard.push(part));
    told.identities.watch(() => heard.push('identities'));
    told.take(carried(findChange(NOTHING_KNOWN, full)));
    expect(heard).toEqual([
      'quarantines told',
      'bundles',
      'directory',
      'places',
      'services',
      'enforcement',
      'entries',
      'identities',
    ]);
    heard.length = 0;
    told.take(carried(findChange(full, { ...full, directory: new Map() })));
    expect(heard).toEqual(['directory']);
    expect(told.nodeId).toBe(full.nodeId);
  });

  test('knows of no quarantine to be free of before the server told anything', () => {
    const told = new ToldKnowledge();
    expect(told.quarantines.current.position).toBeUndefined();
    told.take({ isTold: false, nodeId: null });
    expect(told.quarantines.current.position).toBeUndefined();
  });
});
