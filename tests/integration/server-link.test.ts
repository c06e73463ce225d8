import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type IncomingHttpStatusHeader } from 'node:http2';
import { createServer, type AddressInfo } from 'node:net';
import { HeldBackStore } from '../../agent/key-store/held-back-store.ts';
import { MemoryStore } from '../../agent/key-store/memory.ts';
import { JoinTokenProver } from '../../agent/node-attestation/join-token.ts';
import { fetchPinnedBundle } from '../../agent/server-link/first-trust.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import { agentId } from '../../shared/spiffe/reserved-path.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import {
  connectUntrusting,
  openAgentIdentity,
  type AgentIdentityOptions,
  type AgentIdentityRig,
} from '../kit/agent-identity.ts';
import { testAccessRecord, testFrames, testSpool } from '../kit/audit-batches.ts';
import { AgentServer } from '../kit/agent-server.ts';
import { proverOf } from '../kit/tpm-rig.ts';
import { startSwtpm, type Swtpm } from '../kit/swtpm.ts';
import { TEST_TRUST_DOMAIN } from '../kit/datastore.ts';
import { FakeClock } from '../kit/fake-clock.ts';
import { testEntry } from '../kit/mesh-data.ts';
import { refusalOf } from '../kit/refusal-of.ts';
import { waitUntil } from '../kit/wait.ts';

setDefaultTimeout(60_000);

let server: AgentServer;
let tpm: Swtpm;
const rigs: AgentIdentityRig[] = [];
const SHORTEST_LIFE_SECONDS = 20;

beforeAll(async () => {
  server = await AgentServer.open();
  await server.start();
  tpm = await startSwtpm();
});

afterAll(async () => {
  for (const rig of rigs) await rig.manager.stop();
  await server.close();
  await tpm.stop();
});

/** A host that was given a join token. */
async function newHost(name: string, change: Partial<AgentIdentityOptions> = {}): Promise<AgentIdentityRig> {
  const wish = { name, addresses: [], ttlSeconds: 600, createdBy: 'test' };
  const { token } = await server.tokens.create(wish);
  return await openHost({ server, prover: new JoinTokenProver(token), ...change });
}

async function openHost(options: AgentIdentityOptions): Promise<AgentIdentityRig> {
  const rig = await openAgentIdentity(options);
  rigs.push(rig);
  return rig;
}

function idOf(name: string, attestationType = 'join_token'): SpiffeId {
  return agentId(TEST_TRUST_DOMAIN, { attestationType, name });
}

async function register(parentId: SpiffeId, path: string, change: Partial<Entry> = {}): Promise<Entry> {
  return await server.registration.create({ ...testEntry('any', path, change), parentId });
}

describe('first trust', () => {
  test('fetchPinnedBundle() keeps nothing that the pin does not name', async () => {
    const connection = await connectUntrusting(server);
    const trust = { sha256: 'ab'.repeat(32), trustDomain: TEST_TRUST_DOMAIN };
    expect(await refusalOf(fetchPinnedBundle(connection, trust))).toMatchObject({
      code: 'unauthenticated',
      reason: 'root_pin_mismatch',
    });
    connection.close();
  });

  test('openIdentityManager() refuses a server without the pinned root at once', async () => {
    const trust = { kind: 'pin' as const, sha256: 'ab'.repeat(32) };
    const opening = openHost({ server, prover: new JoinTokenProver('any'), trust });
    expect(await refusalOf(opening)).toMatchObject({ reason: 'root_pin_mismatch' });
  });

  test('openIdentityManager() refuses a bundle file that is none', async () => {
    const trust = { kind: 'file' as const, path: '/dev/null' };
    const opening = openHost({ server, prover: new JoinTokenProver('any'), trust });
    expect(await refusalOf(opening)).toMatchObject({
      code: 'failed_precondition',
      reason: 'trust_bundle_invalid',
    });
  });

  test('a host with the bundle in a file attests', async () => {
    const trust = { kind: 'file' as const, path: server.bundleFile };
    const rig = await newHost('by-file', { trust });
    await rig.manager.start();
    expect(rig.manager.agentSvid.current.spiffeId).toBe(idOf('by-file'));
  });

  test('a host with the bundle of another authority refuses the server and tells it nothing', async () => {
    const other = await AgentServer.open();
    const trust = { kind: 'file' as const, path: other.bundleFile };
    const rig = await newHost('elsewhere', { trust });
    const starting = rig.manager.start();
    await waitUntil('it was refused', () => rig.events.includes('attestation_failed'));
    expect(await server.nodes.find(idOf('elsewhere'))).toBeUndefined();
    await rig.manager.stop();
    await starting;
    await other.close();
  });
});

describe('IdentityManager against the real server', () => {
  test('attests by join token, gets an SVID for each entry and loses it with the entry', async () => {
    const rig = await newHost('one');
    await rig.manager.start();
    expect(rig.manager.agentSvid.current.spiffeId).toBe(idOf('one'));
    await waitUntil('the stream is live', () => rig.manager.isConnected);
    const entry = await register(idOf('one'), '/one/web');
    await register(idOf('two'), '/two/web');
    const held = await waitUntil('there is an SVID', () => rig.manager.identities.current.get(entry.entryId));
    expect(held.svid.spiffeId).toBe(entry.spiffeId);
    expect(verifyX509Svid(held.svid.chain, rig.manager.bundles.current, Date.now()).spiffeId).toBe(
      entry.spiffeId,
    );
    expect(rig.manager.identities.current.size).toBe(1);
    await server.registration.delete(entry.entryId);
    await waitUntil('it is withdrawn', () => rig.manager.identities.current.size === 0);
  });

  test('attests by TPM, its quote bound to the certificate of the very connection', async () => {
    const prover = proverOf(tpm);
    const { ekHash } = await prover.identity();
    await prover.close();
    await server.tpmHosts.approve({ ekHash, decidedBy: 'test', name: 'by-tpm' });
    const rig = await openHost({ server, prover });
    await rig.manager.start();
    expect(rig.manager.agentSvid.current.spiffeId).toBe(idOf('by-tpm', 'tpm'));
  });

  test('a TPM host that was evicted proves itself anew', async () => {
    const prover = proverOf(tpm);
    const { ekHash } = await prover.identity();
    await prover.close();
    await server.tpmHosts.approve({ ekHash, decidedBy: 'test', name: 'evicted' });
    const rig = await openHost({ server, prover });
    await rig.manager.start();
    await waitUntil('the stream is live', () => rig.manager.isConnected);
    const before = rig.manager.agentSvid.current;
    await server.nodes.evict(before.spiffeId);
    await waitUntil('it has another SVID', () => rig.manager.agentSvid.current !== before);
    await waitUntil('the stream is live again', () => rig.manager.isConnected);
  });

  test('a host that comes back under another name keeps nothing that was told to the old one', async () => {
    const prover = proverOf(tpm);
    const { ekHash } = await prover.identity();
    await prover.close();
    const store = new MemoryStore();
    await server.tpmHosts.approve({ ekHash, decidedBy: 'test', name: 'old-name' });
    const first = await openHost({ server, prover, store });
    await first.manager.start();
    const old = await register(idOf('old-name', 'tpm'), '/old/web');
    await waitUntil('there is an SVID', () => first.manager.identities.current.has(old.entryId));
    const next = await register(idOf('new-name', 'tpm'), '/new/web');
    await server.tpmHosts.approve({ ekHash, decidedBy: 'test', name: 'new-name' });
    await server.nodes.evict(idOf('old-name', 'tpm'));
    await waitUntil('it has the other SVID', () => first.manager.identities.current.has(next.entryId));
    expect([...first.manager.identities.current.keys()]).toEqual([next.entryId]);
  });

  test('start() refuses a join token that was used', async () => {
    const wish = { name: 'used', addresses: [], ttlSeconds: 600, createdBy: 'test' };
    const { token } = await server.tokens.create(wish);
    const first = await openHost({ server, prover: new JoinTokenProver(token) });
    await first.manager.start();
    const second = await openHost({ server, prover: new JoinTokenProver(token) });
    expect(await refusalOf(second.manager.start())).toMatchObject({ reason: 'join_token_invalid' });
  });

  test('after a restart without the server it serves at once what is still valid', async () => {
    const store = new MemoryStore();
    const first = await newHost('restart', { store });
    await first.manager.start();
    const entry = await register(idOf('restart'), '/restart/web');
    await waitUntil('there is an SVID', () => first.manager.identities.current.get(entry.entryId));
    await first.manager.stop();
    await server.stop();
    try {
      const second = await openHost({ server, prover: new JoinTokenProver('spent'), store });
      await second.manager.start();
      const held = second.manager.identities.current.get(entry.entryId);
      expect(held?.svid.chain).toEqual(first.manager.identities.current.get(entry.entryId)?.svid.chain);
      expect(second.manager.bundles.current.get(TEST_TRUST_DOMAIN)?.x509Authorities.length).toBe(1);
      expect(second.manager.sync.current.entries.get(entry.entryId)?.spiffeId).toBe(entry.spiffeId);
      expect(second.manager.isConnected).toBe(false);
      await server.start();
      await waitUntil('the stream is live', () => second.manager.isConnected, 40_000);
    } finally {
      await server.stop();
      await server.start();
    }
  });

  test('goes on where it stood when the server comes back, without telling anybody what is known', async () => {
    const rig = await newHost('outage');
    await rig.manager.start();
    const kept = await register(idOf('outage'), '/outage/kept');
    await waitUntil('there is an SVID', () => rig.manager.identities.current.get(kept.entryId));
    const { entries } = rig.manager.sync.current;
    await server.stop();
    await waitUntil('the outage is noticed', () => !rig.manager.isConnected);
    expect(rig.manager.identities.current.has(kept.entryId)).toBe(true);
    await server.start();
    await waitUntil('the stream is live', () => rig.manager.isConnected, 40_000);
    expect(rig.manager.sync.current.entries).toBe(entries);
    const added = await register(idOf('outage'), '/outage/added');
    await waitUntil('the new entry has an SVID', () => rig.manager.identities.current.has(added.entryId));
  });

  test('tries the next server where one does not speak TLS', async () => {
    const deaf = createServer((socket) => socket.end('no'));
    await new Promise<void>((resolve) => deaf.listen(0, '127.0.0.1', resolve));
    const { port } = deaf.address() as AddressInfo;
    const rig = await newHost('second', { otherServers: [{ host: '127.0.0.1', port }] });
    await rig.manager.start();
    expect(rig.events).toContain('server_not_connected');
    await waitUntil('the stream is live', () => rig.manager.isConnected);
    deaf.close();
  });

  test('renews its own SVID and those of its workloads at half of their life, and says that clocks differ', async () => {
    const clock = new FakeClock(Date.now());
    const rig = await newHost('renews', { clock });
    await rig.manager.start();
    const entry = await register(idOf('renews'), '/renews/web');
    const first = await waitUntil('there is an SVID', () =>
      rig.manager.identities.current.get(entry.entryId),
    );
    const own = rig.manager.agentSvid.current;
    expect(rig.time.isSkewed).toBe(false);
    clock.advance(11.9 * 3_600_000);
    await waitUntil('the stream is live', () => {
      clock.advance(1000);
      return rig.manager.isConnected;
    });
    expect(rig.manager.agentSvid.current).toBe(own);
    clock.advance(0.2 * 3_600_000);
    await waitUntil('both are renewed', () => {
      clock.advance(1000);
      const now = rig.manager.identities.current.get(entry.entryId);
      return rig.manager.agentSvid.current !== own && now !== undefined && now.svid !== first.svid;
    });
    expect(rig.time.isSkewed).toBe(true);
    expect(rig.events).toContain('clock_skewed');
  });

  test('an SVID that lives less than what it is dated back is not renewed at once', async () => {
    const clock = new FakeClock(Date.now());
    const rig = await newHost('short', { clock });
    await rig.manager.start();
    const entry = await register(idOf('short'), '/short/web', { ttlSeconds: 60 });
    const first = await waitUntil('there is an SVID', () =>
      rig.manager.identities.current.get(entry.entryId),
    );
    const issued = (): number => rig.events.filter((event) => event === 'svid_issued').length;
    clock.advance(20_000);
    const later = await register(idOf('short'), '/short/later');
    await waitUntil('another has one too', () => rig.manager.identities.current.has(later.entryId));
    expect(rig.manager.identities.current.get(entry.entryId)?.svid).toBe(first.svid);
    expect(issued()).toBe(2);
    await waitUntil('it is renewed', () => {
      clock.advance(1000);
      return rig.manager.identities.current.get(entry.entryId)?.svid !== first.svid;
    });
    expect(issued()).toBe(3);
  });

  test('withdraws SVIDs that ended while no server answered', async () => {
    const clock = new FakeClock(Date.now());
    const rig = await newHost('ended', { clock });
    await rig.manager.start();
    const entry = await register(idOf('ended'), '/ended/web', { ttlSeconds: 600 });
    await waitUntil('there is an SVID', () => rig.manager.identities.current.has(entry.entryId));
    await server.stop();
    try {
      await waitUntil('it is withdrawn', () => {
        clock.advance(10_000);
        return !rig.manager.identities.current.has(entry.entryId);
      });
    } finally {
      await server.start();
    }
  });

  test('a banned agent keeps what is valid and says that it was refused', async () => {
    const rig = await newHost('banned');
    await rig.manager.start();
    const entry = await register(idOf('banned'), '/banned/web');
    await waitUntil('there is an SVID', () => rig.manager.identities.current.has(entry.entryId));
    await server.nodes.setBanned(idOf('banned'), true);
    const refusal = await waitUntil('the refusal is known', () => rig.api.refusal.current);
    expect(refusal.reason).toBe('node_banned');
    expect(rig.manager.isConnected).toBe(false);
    expect(rig.manager.identities.current.has(entry.entryId)).toBe(true);
    await server.nodes.setBanned(idOf('banned'), false);
    await waitUntil('it is let in again', () => rig.manager.isConnected, 40_000);
    expect(rig.api.refusal.current).toBeUndefined();
  });
});

describe('ServerApi', () => {
  test('fetches an artefact, ships records and reports what the agent says of itself', async () => {
    const rig = await newHost('api');
    await rig.manager.start();
    const artifact = Buffer.from('an artefact');
    const digest = createHash('sha256').update(artifact).digest('hex');
    server.artifacts.set(digest, artifact);
    expect(Buffer.from(await rig.api.fetchArtifact(digest))).toEqual(artifact);
    expect(await refusalOf(rig.api.fetchArtifact('00'.repeat(32)))).toMatchObject({
      reason: 'policy_artifact_unknown',
    });
    const status = {
      agentVersion: '1',
      cursor: 3,
      policySequence: 7,
      addresses: ['192.0.2.9'],
    };
    await rig.api.sendStatus(status);
    expect((await server.nodes.find(idOf('api')))?.status).toEqual(status);
  });

  test('is told that its records are held back before it has sent them, and goes on with the connection', async () => {
    const rig = await newHost('held-back');
    await rig.manager.start();
    const record = JSON.stringify(testAccessRecord({ decision: 'deny' }));
    const batch = {
      epoch: 'ab'.repeat(16),
      frames: testFrames(testSpool(Array.from({ length: 1000 }, () => record))),
    };
    expect(await rig.api.sendAudit(batch)).toMatchObject({ sequence: 1000 });
    const { chainPem: cert, privateKeyPem: key } = rig.manager.credentials ?? {};
    const session = connect(`https://127.0.0.1:${server.port}`, { cert, key, rejectUnauthorized: false });
    const stream = session.request({
      ':method': 'POST',
      ':path': `/v1/audit/frames?epoch=${batch.epoch}`,
      'content-type': 'application/octet-stream',
      'content-length': String(batch.frames.length),
    });
    stream.write(batch.frames.subarray(0, 1));
    const [head] = (await once(stream, 'response')) as [IncomingHttpStatusHeader];
    expect(head[':status']).toBe(429);
    session.destroy();
    // More than the window of the connection takes unread.
    for (let i = 0; i < 20; i++)
      expect(await refusalOf(rig.api.sendAudit(batch))).toMatchObject({ reason: 'audit_held_back' });
    await rig.api.sendStatus({ agentVersion: '1', cursor: 3, policySequence: 7, addresses: [] });
  });
});

describe('two processes of one agent', () => {
  test('the one that steps aside hears the server, asks for nothing, and takes what the other one wrote down', async () => {
    const store = new MemoryStore();
    const wish = { name: 'replaced', addresses: [], ttlSeconds: 600, createdBy: 'test' };
    const prover = new JoinTokenProver((await server.tokens.create(wish)).token);
    const ofOld = new HeldBackStore(store);
    const old = await openHost({ server, prover, store: ofOld });
    await old.manager.start();
    const first = await register(idOf('replaced'), '/replaced/first');
    await waitUntil('the first has an identity', () => old.manager.identities.current.has(first.entryId));
    await old.manager.stepAside();
    await ofOld.holdBack();
    ofOld.giveAway();
    const issuedBefore = old.events.filter((event) => event === 'svid_issued').length;
    const next = await openHost({ server, prover, store });
    expect(next.manager.nodeId).toBe(idOf('replaced'));
    await next.manager.start();
    await waitUntil('both hear', () => old.manager.isConnected && next.manager.isConnected);
    const second = await register(idOf('replaced'), '/replaced/second');
    const svidOf = ({ manager }: AgentIdentityRig) => manager.identities.current.get(second.entryId)?.svid;
    await waitUntil('the old one has heard of it', () =>
      old.manager.known.entries.current.has(second.entryId),
    );
    await waitUntil('both show the same certificate', () => svidOf(old)?.chainPem !== undefined);
    expect(svidOf(old)?.chainPem).toBe(svidOf(next)?.chainPem ?? 'none');
    expect(old.events.filter((event) => event === 'svid_issued')).toHaveLength(issuedBefore);
    expect([old.manager.isConnected, next.manager.isConnected]).toEqual([true, true]);
  });

  test('the one that steps aside takes that before it has given way too, whatever the server says meanwhile', async () => {
    const store = new MemoryStore();
    const ofOld = new HeldBackStore(store);
    const old = await newHost('giving-way', { store: ofOld });
    await old.manager.start();
    await old.manager.stepAside();
    await ofOld.holdBack();
    // The state of the one that asks for nothing is held back, and tells of no certificate.
    const entry = await register(idOf('giving-way'), '/giving-way');
    await waitUntil('it holds back what it heard', () => ofOld.hasHeldBack);
    const next = await openHost({ server, prover: new JoinTokenProver('spent'), store });
    await next.manager.start();
    const chainOf = ({ manager }: AgentIdentityRig) =>
      manager.identities.current.get(entry.entryId)?.svid.chainPem;
    await waitUntil('the other one has a certificate', () => chainOf(next));
    await waitUntil('both show it', () => chainOf(old) === chainOf(next));
  });

  test('the one that steps aside goes on with a life that is short where the other one does not renew it', async () => {
    const host = await newHost('left-alone');
    await host.manager.start();
    const entry = await register(idOf('left-alone'), '/left-alone', { ttlSeconds: SHORTEST_LIFE_SECONDS });
    const find = () => host.manager.identities.current.get(entry.entryId)?.svid;
    const first = await waitUntil('it has a certificate', find);
    await host.manager.stepAside();
    let isMissing = false;
    host.manager.identities.watch(() => (isMissing ||= find() === undefined));
    // It asks late in that life. Were it too late, the certificate would be missing in between.
    await waitUntil('it has another', () => find() !== first, 2 * SHORTEST_LIFE_SECONDS * 1000);
    expect(isMissing).toBe(false);
    expect(find()?.notAfterMs).toBeGreaterThan(first.notAfterMs);
  });

  test('the one that steps back asks for itself again', async () => {
    const host = await newHost('not-replaced');
    await host.manager.start();
    await host.manager.stepAside();
    const entry = await register(idOf('not-replaced'), '/not-replaced');
    await waitUntil('it has heard of it', () => host.manager.known.entries.current.has(entry.entryId));
    expect(host.manager.identities.current.has(entry.entryId)).toBe(false);
    host.manager.stepBack();
    await waitUntil('it has a certificate', () => host.manager.identities.current.has(entry.entryId));
  });
});
