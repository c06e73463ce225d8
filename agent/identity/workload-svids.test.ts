import { beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import type { IssuedSvid } from '../../shared/protocol/attestation.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import { MAX_SIGNING_BATCH, type SignAnswer, type SignRequest } from '../../shared/protocol/signing.ts';
import { buildSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import {
  authorityProfile,
  leafProfile,
  makeCertificate,
  x509,
  type TestCertificate,
} from '../../tests/kit/test-authority.ts';
import { WorkloadSvids, type WorkloadSvidsOptions } from './workload-svids.ts';

const TRUST_DOMAIN = parseTrustDomain('example.org');
const LIFE_MS = 3_600_000;
const REFUSED = {
  kind: 'refused' as const,
  problem: {
    type: 'about:blank' as const,
    status: 403,
    title: '',
    detail: 'Not yours',
    code: 'permission_denied' as const,
    reason: 'entry_not_own',
  },
};

let clock: FakeClock;
let root: TestCertificate;
let bundle: TrustBundle;
let asked: SignRequest[];
let entries: Map<string, Entry>;
/** What a test answers in the place of an SVID for the entry. */
let answerFor: (entry: Entry) => SignAnswer['results'][number] | Entry;
let options: WorkloadSvidsOptions;
let svids: WorkloadSvids;

beforeAll(async () => {
  clock = new FakeClock();
  root = await newRoot();
});

beforeEach(() => {
  clock = new FakeClock();
  bundle = bundleOf(root);
  asked = [];
  entries = new Map();
  answerFor = (entry) => entry;
  options = {
    requestSvids: async (request) => {
      asked.push(request);
      return await Promise.all(request.requests.map(async (each) => await sign(each)));
    },
    bundle: () => bundle,
    clock,
    random: () => 0.5,
    log: silentLog,
  };
  svids = new WorkloadSvids(options);
});

async function newRoot(): Promise<TestCertificate> {
  const life = { notBeforeMs: clock.nowMs() - LIFE_MS, notAfterMs: clock.nowMs() + 100 * LIFE_MS };
  return await makeCertificate({ ...authorityProfile('example.org'), ...life });
}

function bundleOf(authority: TestCertificate): TrustBundle {
  return {
    trustDomain: TRUST_DOMAIN,
    sequence: 1,
    refreshHintSeconds: 300,
    x509Authorities: [authority.der],
  };
}

/** Signs as a server does: dated back by five minutes. */
async function sign({
  entryId,
  csr,
}: SignRequest['requests'][number]): Promise<SignAnswer['results'][number]> {
  const entry = entries.get(entryId);
  const answer = entry === undefined ? REFUSED : answerFor(entry);
  if ('kind' in answer) return answer;
  const publicKey = await new x509.Pkcs10CertificateRequest(csr).publicKey.export();
  const leaf = await makeCertificate(
    {
      ...leafProfile(answer.spiffeId),
      keys: { publicKey, privateKey: root.keys.privateKey },
      notBeforeMs: clock.nowMs() - 300_000,
      notAfterMs: clock.nowMs() + LIFE_MS,
    },
    root,
  );
  const svid: IssuedSvid = {
    spiffeId: answer.spiffeId,
    chain: [Buffer.from(leaf.der).toString('base64')],
    notAfter: new Date(clock.nowMs() + LIFE_MS).toISOString(),
  };
  return { kind: 'issued', svid };
}

function entryOf(path: string, change: Partial<Entry> = {}): Entry {
  return {
    entryId: crypto.randomUUID(),
    spiffeId: buildSpiffeId(TRUST_DOMAIN, path),
    parentId: buildSpiffeId(TRUST_DOMAIN, '/picket/agent/tpm/a'),
    selectors: [],
    ttlSeconds: 3600,
    federatesWith: [],
    dnsNames: [],
    hint: '',
    listeners: [],
    revision: 1,
    createdAt: '2026-11-24T00:00:00.000Z',
    ...change,
  };
}

async function follow(...list: readonly Entry[]): Promise<void> {
  entries = new Map(list.map((entry) => [entry.entryId, entry]));
  svids.follow(entries);
  await svids.renewDue();
}

const held = (entry: Entry) => svids.identities.current.get(entry.entryId)?.svid;

describe('WorkloadSvids', () => {
  test('adopt() takes what another process got where it is newer, once, and asks for nothing', async () => {
    const entry = entryOf('/web');
    await follow(entry);
    const stored = svids.stored();
    const before = held(entry);
    let changes = 0;
    svids.identities.watch(() => (changes += 1));
    svids.adopt(stored);
    expect([held(entry), changes]).toEqual([before, 0]);
    clock.advance(LIFE_MS / 2 + 1);
    await svids.renewDue();
    const renewed = svids.stored();
    const after = held(entry);
    expect(after?.chainPem).not.toBe(before?.chainPem ?? '');
    svids.adopt(stored);
    expect([held(entry), changes]).toEqual([after, 1]);
    const other = new WorkloadSvids({ ...options, requestSvids: () => Promise.reject(new Error('It asks')) });
    other.follow(entries);
    for (const each of [stored, renewed]) other.adopt(each);
    expect(other.identities.current.get(entry.entryId)?.svid).toBe(after);
    // An entry that changed is worth more than a long life.
    other.adopt(new Map(Array.from(stored, ([id, { svid }]) => [id, { svid, revision: 2 }])));
    expect(other.identities.current.get(entry.entryId)?.svid).toBe(before);
  });

  test('renewOverdue() waits for another process until half of the time between renewal and end is over, and asks for nothing that it has never had', async () => {
    const entry = entryOf('/web');
    await follow(entry);
    const before = held(entry);
    const second = entryOf('/second');
    entries.set(second.entryId, second);
    svids.follow(entries);
    expect(svids.untilOverdueMs()).toBe((LIFE_MS * 3) / 4);
    clock.advance((LIFE_MS * 3) / 4 - 1);
    expect(await svids.renewOverdue()).toBe(false);
    clock.advance(1);
    expect(await svids.renewOverdue()).toBe(true);
    expect(held(entry)?.chainPem).not.toBe(before?.chainPem ?? '');
    expect(held(second)).toBeUndefined();
    expect(svids.untilOverdueMs()).toBe((LIFE_MS * 3) / 4);
  });

  test('asks for many at once, each with a key of its own, and never for more than a batch', async () => {
    const list = Array.from({ length: MAX_SIGNING_BATCH + 1 }, (_, i) => entryOf(`/w${i}`));
    await follow(...list);
    expect(asked.map(({ requests }) => requests.length)).toEqual([MAX_SIGNING_BATCH, 1]);
    expect(svids.identities.current.size).toBe(list.length);
    expect(new Set(list.map((entry) => held(entry)?.privateKeyPem)).size).toBe(list.length);
  });

  test('has nothing to do until the middle of the life, renews then, and shows no gap', async () => {
    const entry = entryOf('/web');
    await follow(entry);
    const first = held(entry);
    expect(svids.untilNextMs()).toBe(LIFE_MS / 2);
    clock.advance(LIFE_MS / 2 - 1);
    expect(await svids.renewDue()).toBe(false);
    clock.advance(1);
    expect(await svids.renewDue()).toBe(true);
    expect(held(entry)).not.toBe(first);
    expect(held(entry)?.privateKeyPem).not.toBe(first?.privateKeyPem);
  });

  test('withdraws what has ended, also where the clock was set back', async () => {
    const entry = entryOf('/web');
    await follow(entry);
    clock.jump(-LIFE_MS);
    clock.advance(LIFE_MS);
    svids.publish();
    expect(held(entry)).toBeUndefined();
    expect(svids.untilNextMs()).toBe(0);
  });

  test('one refusal does not keep the others from theirs, and is asked again in half a minute', async () => {
    const [good, bad] = [entryOf('/good'), entryOf('/bad')];
    answerFor = (entry) => (entry === bad ? REFUSED : entry);
    await follow(bad, good);
    expect([held(good) === undefined, held(bad)]).toEqual([false, undefined]);
    expect(svids.untilNextMs()).toBe(30_000);
    answerFor = (entry) => entry;
    clock.advance(30_000);
    await svids.renewDue();
    expect(held(bad)).toBeDefined();
  });

  test('never takes an SVID for another identity', async () => {
    answerFor = () => entryOf('/somebody-else');
    const entry = entryOf('/web');
    await follow(entry);
    expect(held(entry)).toBeUndefined();
  });

  test('never takes an SVID for another key', async () => {
    const [one, two] = [entryOf('/web'), entryOf('/web')];
    await follow(one);
    const stolen = held(one)?.chain.map((der) => Buffer.from(der).toString('base64')) ?? [];
    const svid = { spiffeId: two.spiffeId, chain: stolen, notAfter: new Date().toISOString() };
    answerFor = (entry) => (entry === two ? { kind: 'issued', svid } : entry);
    await follow(one, two);
    expect(held(two)).toBeUndefined();
  });

  test('an entry that changed gets a new SVID; the old one serves until then, unless it names somebody else', async () => {
    const entry = entryOf('/web');
    await follow(entry);
    const first = held(entry);
    const renamed = { ...entry, spiffeId: buildSpiffeId(TRUST_DOMAIN, '/new'), revision: 3 };
    svids.follow(new Map([[entry.entryId, { ...entry, revision: 2 }]]));
    expect(held(entry)).toBe(first);
    svids.follow(new Map([[entry.entryId, renamed]]));
    expect(held(entry)).toBeUndefined();
    await follow(renamed);
    expect(held(entry)?.spiffeId).toBe(renamed.spiffeId);
  });

  test('forgets an entry that is withdrawn while its SVID is on the way', async () => {
    const entry = entryOf('/web');
    answerFor = (asked) => {
      svids.follow(new Map());
      return asked;
    };
    await follow(entry);
    expect(svids.identities.current.size).toBe(0);
    expect(svids.stored().size).toBe(0);
  });

  test('dropUntrusted() withdraws what the authorities of now did not sign, and asks anew', async () => {
    const entry = entryOf('/web');
    await follow(entry);
    svids.dropUntrusted();
    expect(held(entry)).toBeDefined();
    bundle = bundleOf(await newRoot());
    svids.dropUntrusted();
    expect(held(entry)).toBeUndefined();
    expect(svids.untilNextMs()).toBe(0);
  });

  test('restore() brings back what is still valid', async () => {
    const entry = entryOf('/web');
    await follow(entry);
    const before = held(entry);
    const stored = svids.stored();
    svids.follow(new Map());
    svids.restore(stored);
    svids.follow(entries);
    expect(held(entry)).toBe(before);
    expect(svids.untilNextMs()).toBe(LIFE_MS / 2);
  });

  test('tells nobody where nothing changed', async () => {
    await follow(entryOf('/web'));
    const { current } = svids.identities;
    svids.publish();
    svids.follow(entries);
    expect(svids.identities.current).toBe(current);
  });
});
