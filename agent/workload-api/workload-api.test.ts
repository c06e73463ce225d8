import { afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import { run } from '../../tests/kit/child.ts';
import { requireRoot } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { WorkloadIdentity } from '../identity/identity.ts';
import {
  makeDomain,
  makeIdentity,
  makeSvid,
  WorkloadRig,
  type ClientLine,
  type RigDomain,
} from './fixtures/workload-rig.ts';

// Each call is a process of its own, with a client of gRPC to load.
setDefaultTimeout(120_000);

const ALICE = 61_001;
const BOB = 61_002;

let rig: WorkloadRig;
let home: RigDomain;
let partner: RigDomain;
let stranger: RigDomain;
let web: WorkloadIdentity;
let billing: WorkloadIdentity;

beforeAll(async () => {
  requireRoot('processes of other users');
  home = await makeDomain('example.org');
  partner = await makeDomain('partner.example');
  stranger = await makeDomain('stranger.example');
  web = await makeIdentity(home, '/web', { hint: 'internal', federatesWith: ['partner.example'] });
  billing = await makeIdentity(home, '/billing', { hint: 'internal' });
});

beforeEach(() => {
  rig = new WorkloadRig();
  rig.trust(home, partner, stranger);
  rig.hold(web, billing);
  rig.processes.entries.set(ALICE, [web.entry.entryId, billing.entry.entryId]);
  rig.processes.entries.set(BOB, [billing.entry.entryId]);
});

afterEach(() => rig.stop());

interface SvidMessage {
  readonly spiffe_id: string;
  readonly x509_svid: string;
  readonly x509_svid_key: string;
  readonly bundle: string;
  readonly hint: string;
}

function svidsOf(line: ClientLine): readonly SvidMessage[] {
  return (line.message?.['svids'] ?? []) as readonly SvidMessage[];
}

function der(base64: string): Buffer {
  return Buffer.from(base64, 'base64');
}

describe('FetchX509SVID', () => {
  test('startWorkloadApi() gives a process all its identities at once, the default one first, to the letter of the standard', async () => {
    await rig.start();
    const line = await rig.call('FetchX509SVID', { uid: ALICE }).line(0);
    const [first, second] = svidsOf(line);
    expect([first?.spiffe_id, second?.spiffe_id]).toEqual([
      'spiffe://example.org/web',
      'spiffe://example.org/billing',
    ]);
    const leaf = new X509Certificate(der(first!.x509_svid));
    expect(leaf.subjectAltName).toBe('URI:spiffe://example.org/web');
    const key = createPrivateKey({ key: der(first!.x509_svid_key), format: 'der', type: 'pkcs8' });
    expect(leaf.checkPrivateKey(key)).toBe(true);
    expect(leaf.verify(new X509Certificate(der(first!.bundle)).publicKey)).toBe(true);
    expect(line.message?.['crl']).toEqual([]);
  });

  test('startWorkloadApi() gives no key to who is in quarantine, ends the stream of one that comes to be, and gives it again', async () => {
    await rig.start();
    const [alice, bob] = [ALICE, BOB].map((uid) => rig.call('FetchX509SVID', { uid }));
    await Promise.all([alice?.line(0), bob?.line(0)]);
    rig.held.set(new Set([billing.svid.spiffeId]));
    // Of two identities one is enough.
    for (const held of [alice, bob]) expect((await held!.line(1)).error?.code).toBe('PERMISSION_DENIED');
    for (const method of ['FetchX509SVID', 'FetchX509Bundles'])
      expect((await rig.call(method, { uid: BOB }).line(0)).error?.code).toBe('PERMISSION_DENIED');
    // Nor is it while the certificate of the one that is held is not there any more.
    rig.hold(web);
    expect((await rig.call('FetchX509SVID', { uid: ALICE }).line(0)).error?.code).toBe('PERMISSION_DENIED');
    rig.hold(web, billing);
    rig.held.set(new Set());
    expect(svidsOf(await rig.call('FetchX509SVID', { uid: BOB }).line(0))).toHaveLength(1);
    expect(svidsOf(await rig.call('FetchX509SVID', { uid: ALICE }).line(0))).toHaveLength(2);
  });

  test('startWorkloadApi() keeps a hint unique within a response', async () => {
    await rig.start();
    const svids = svidsOf(await rig.call('FetchX509SVID', { uid: ALICE }).line(0));
    expect(svids.map(({ hint }) => hint)).toEqual(['internal', '']);
  });

  test('startWorkloadApi() adds the bundles that the process’s own entries federate with, and no others', async () => {
    await rig.start();
    const alice = await rig.call('FetchX509SVID', { uid: ALICE }).line(0);
    expect(alice.message?.['federated_bundles']).toEqual({
      'spiffe://partner.example': Buffer.from(partner.authority.der).toString('base64'),
    });
    const bob = await rig.call('FetchX509SVID', { uid: BOB }).line(0);
    expect(bob.message?.['federated_bundles']).toEqual({});
    expect(svidsOf(bob).map(({ spiffe_id }) => spiffe_id)).toEqual(['spiffe://example.org/billing']);
  });

  test('startWorkloadApi() streams the whole state again when an SVID is renewed or a bundle changes, and nothing otherwise', async () => {
    await rig.start();
    const call = rig.call('FetchX509SVID', { uid: BOB });
    const before = svidsOf(await call.line(0))[0];
    const renewed = { ...billing, svid: await makeSvid(home, billing.entry.spiffeId) };
    rig.hold(web, renewed);
    const after = svidsOf(await call.line(1))[0];
    expect(after?.x509_svid).not.toBe(before?.x509_svid);
    expect(der(after!.x509_svid)).toEqual(Buffer.from(renewed.svid.chain[0]!));
    rig.hold({ ...web, svid: await makeSvid(home, web.entry.spiffeId) }, renewed);
    rig.trust(home, partner);
    const root = await makeDomain('example.org');
    const both = [...home.bundle.x509Authorities, ...root.bundle.x509Authorities];
    rig.trust({ ...home, bundle: { ...home.bundle, x509Authorities: both } });
    const rotated = svidsOf(await call.line(2))[0];
    expect(der(rotated!.bundle)).toEqual(Buffer.concat(both));
    expect(call.lines).toHaveLength(3);
  });

  test('startWorkloadApi() withdraws one identity and ends the stream with the last one', async () => {
    await rig.start();
    const call = rig.call('FetchX509SVID', { uid: ALICE });
    expect(svidsOf(await call.line(0))).toHaveLength(2);
    rig.hold(billing);
    expect(svidsOf(await call.line(1)).map(({ spiffe_id }) => spiffe_id)).toEqual([
      'spiffe://example.org/billing',
    ]);
    rig.hold();
    expect((await call.line(2)).error?.code).toBe('PERMISSION_DENIED');
  });

  test('startWorkloadApi() identifies a process again that has changed', async () => {
    await rig.start();
    const call = rig.call('FetchX509SVID', { uid: ALICE });
    expect(svidsOf(await call.line(0))).toHaveLength(2);
    rig.processes.entries.set(ALICE, [web.entry.entryId]);
    rig.processes.generation += 1;
    expect(svidsOf(await call.line(1))).toHaveLength(1);
    rig.processes.entries.delete(ALICE);
    rig.processes.generation += 1;
    expect((await call.line(2)).error?.code).toBe('PERMISSION_DENIED');
  });

  test('startWorkloadApi() refuses a process without identity by PermissionDenied', async () => {
    await rig.start();
    const { error } = await rig.call('FetchX509SVID', { uid: 61_003 }).line(0);
    expect(error).toEqual({
      code: 'PERMISSION_DENIED',
      details: 'No identity is registered for this process',
    });
  });

  test('startWorkloadApi() gives no identity whose trust bundle is missing', async () => {
    await rig.start();
    rig.trust(partner);
    const { error } = await rig.call('FetchX509SVID', { uid: BOB }).line(0);
    expect(error?.code).toBe('PERMISSION_DENIED');
  });

  test('startWorkloadApi() tells a caller to come back when processes cannot be identified, and why only to the log', async () => {
    await rig.start();
    rig.processes.fault = new PicketError('resource_exhausted', 'limit', 'secret detail');
    const { error } = await rig.call('FetchX509SVID', { uid: BOB }).line(0);
    expect(error?.code).toBe('UNAVAILABLE');
    expect(error?.details).not.toContain('secret');
  });
});

describe('the answers', () => {
  test('startWorkloadApi() resets a call for which they cannot be loaded, goes on, and loads them for the next one', async () => {
    let loads = 0;
    const importAnswers = async () => {
      loads += 1;
      if (loads === 1) throw new Error('no memory');
      return await import('./grpc-answers.ts');
    };
    await rig.start({}, { importAnswers });
    expect((await rig.call('FetchX509SVID', { uid: BOB }).line(0)).error?.code).toBe('INTERNAL');
    await waitUntil('it has ended here, too', () => rig.streams === 0);
    expect(svidsOf(await rig.call('FetchX509SVID', { uid: BOB }).line(0))).toHaveLength(1);
    expect(loads).toBe(2);
  });
});

describe('FetchX509Bundles', () => {
  test('startWorkloadApi() gives the bundles of the own and the federated trust domains, and again after a change', async () => {
    await rig.start();
    const call = rig.call('FetchX509Bundles', { uid: ALICE });
    expect(Object.keys((await call.line(0)).message?.['bundles'] as object)).toEqual([
      'spiffe://example.org',
      'spiffe://partner.example',
    ]);
    rig.trust(home);
    expect(Object.keys((await call.line(1)).message?.['bundles'] as object)).toEqual([
      'spiffe://example.org',
    ]);
  });

  test('startWorkloadApi() refuses bundles to a process without identity', async () => {
    await rig.start();
    const { error } = await rig.call('FetchX509Bundles', { uid: 61_003 }).line(0);
    expect(error?.code).toBe('PERMISSION_DENIED');
  });
});

describe('the endpoint', () => {
  test.each(['workload.spiffe.io=false', 'workload.spiffe.io=TRUE', '='])(
    'startWorkloadApi() answers InvalidArgument to metadata "%s"',
    async (metadata) => {
      await rig.start();
      for (const method of ['FetchX509SVID', 'FetchX509Bundles', 'FetchJWTBundles']) {
        const { error } = await rig.call(method, { uid: ALICE, metadata }).line(0);
        expect(error?.code).toBe('INVALID_ARGUMENT');
      }
    },
  );

  test.each(['FetchJWTBundles', 'FetchWITSVID', 'FetchWITBundles'])(
    'startWorkloadApi() answers Unimplemented to %s',
    async (method) => {
      await rig.start();
      expect((await rig.call(method, { uid: ALICE }).line(0)).error?.code).toBe('UNIMPLEMENTED');
    },
  );

  test('startWorkloadApi() answers curl without the metadata by grpc-status 3, and speaks neither HTTP/1.1 nor Connect', async () => {
    await rig.start();
    const url = 'http://localhost/SpiffeWorkloadAPI/FetchX509SVID';
    const curl = async (...args: string[]) =>
      await run(['curl', '-si', '--unix-socket', rig.path, '-m', '5', ...args]);
    const h2 = ['--http2-prior-knowledge', '--data-binary', '@/dev/null', url];
    const bare = await curl('-H', 'content-type: application/grpc', ...h2);
    expect(bare.stdout).toContain('grpc-status: 3');
    const json = await curl('-H', 'content-type: application/json', '-H', 'workload.spiffe.io: true', ...h2);
    expect(json.stdout).toStartWith('HTTP/2 415');
    const h1 = await curl('--http1.1', url);
    expect(h1.exitCode).not.toBe(0);
    expect(h1.stdout).not.toContain('200');
  });

  test('startWorkloadApi() answers Unavailable beyond the streams of one user, and other users are served', async () => {
    await rig.start({ maxStreamsPerUid: 1 });
    const first = rig.call('FetchX509SVID', { uid: ALICE });
    await first.line(0);
    const second = rig.call('FetchX509SVID', { uid: ALICE });
    expect((await second.line(0)).error?.code).toBe('UNAVAILABLE');
    expect(svidsOf(await rig.call('FetchX509SVID', { uid: BOB }).line(0))).toHaveLength(1);
    first.child.kill();
    await waitUntil('the place is free', () => rig.api.streams === 1);
    expect(svidsOf(await rig.call('FetchX509SVID', { uid: ALICE }).line(0))).toHaveLength(2);
  });

  test('startWorkloadApi() closes connections beyond those of one user', async () => {
    await rig.start({ maxConnectionsPerUid: 1 });
    await rig.call('FetchX509SVID', { uid: ALICE }).line(0);
    const second = rig.call('FetchX509SVID', { uid: ALICE });
    expect((await second.line(0)).error?.code).toBe('UNAVAILABLE');
    expect(rig.api.connections).toBe(1);
  });

  test('startWorkloadApi() ends a connection that makes no call, and none with a call under way', async () => {
    await rig.start({ idleMs: 1000 });
    const call = rig.call('FetchX509SVID', { uid: ALICE });
    await call.line(0);
    const silent = connect(rig.path).resume();
    await once(silent, 'close');
    await waitUntil('the silent one is gone', () => rig.api.connections === 1);
    expect(rig.api.streams).toBe(1);
  });

  test('startWorkloadApi() forgets a caller that was killed', async () => {
    await rig.start();
    const call = rig.call('FetchX509SVID', { uid: ALICE });
    await call.line(0);
    expect([rig.api.connections, rig.api.streams]).toEqual([1, 1]);
    call.child.kill('SIGKILL');
    await waitUntil('both are gone', () => rig.api.connections === 0 && rig.api.streams === 0);
  });

  test('startWorkloadApi() lets every user connect, and stop() ends streams with Unavailable and removes the socket', async () => {
    await rig.start();
    expect(statSync(rig.path).mode & 0o777).toBe(0o777);
    const call = rig.call('FetchX509SVID', { uid: ALICE });
    await call.line(0);
    await rig.api.stop();
    expect((await call.line(1)).error?.code).toBe('UNAVAILABLE');
    expect(existsSync(rig.path)).toBe(false);
  });
});
