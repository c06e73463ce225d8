import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { buildCsr, generateP256Key, type KeyPair } from '../../agent/identity/key-pair.ts';
import type { AttestAnswer, AttestRequest } from '../../shared/protocol/attestation.ts';
import { agentId } from '../../shared/spiffe/reserved-path.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import {
  openTestPglite,
  silentLog,
  TEST_TRUST_DOMAIN,
  type TestDatastore,
} from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { createTestCa, type TestCa } from '../../tests/kit/test-ca.ts';
import { IssuedSvids } from '../agents/issued-svids.ts';
import { JoinTokens } from '../agents/join-tokens.ts';
import { Nodes } from '../agents/nodes.ts';
import { JoinTokenAttestor } from './join-token.ts';
import { NodeAttestation } from './node-attestation.ts';
import { AttestationSessions } from './session.ts';

const random = (length: number): Uint8Array => randomBytes(length);
const connection = { serverCertificateSha256: new Uint8Array(32) };
const invalid = { code: 'permission_denied', reason: 'join_token_invalid' };

let folder: string;
let kept: TestDatastore;
let ca: TestCa;
let clock: FakeClock;
let tokens: JoinTokens;
let nodes: Nodes;
let issued: IssuedSvids;
let attestation: NodeAttestation;
let key: KeyPair;
let count = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-attestation-'));
  kept = await openTestPglite();
  clock = new FakeClock(Date.now());
  ca = await createTestCa({ folder, clock });
  const { datastore } = kept;
  const trustDomain = TEST_TRUST_DOMAIN;
  tokens = new JoinTokens({ datastore, clock, trustDomain, randomBytes: random });
  nodes = new Nodes({ datastore, clock, log: silentLog });
  issued = new IssuedSvids({ datastore, clock });
  attestation = new NodeAttestation({
    attestors: [new JoinTokenAttestor(tokens)],
    sessions: new AttestationSessions({ clock, random }),
    authority: ca.authority,
    nodes,
    issued,
    bundle: () => ({ trustDomain, sequence: 1, refreshHintSeconds: 300, x509Authorities: [] }),
    trustDomain,
    agentTtlSeconds: 3600,
    log: silentLog,
  });
});
afterAll(async () => {
  await kept.dispose();
  rmSync(folder, { recursive: true });
});

beforeEach(async () => {
  key = await generateP256Key();
});

async function makeToken(): Promise<{ readonly token: string; readonly nodeId: SpiffeId }> {
  const name = `host-${++count}`;
  const wish = { name, ttlSeconds: 600, addresses: [], createdBy: 'me' };
  const nodeId = agentId(TEST_TRUST_DOMAIN, { attestationType: 'join_token', name });
  return { token: (await tokens.create(wish)).token, nodeId };
}

async function ask(token: string, by: KeyPair = key): Promise<AttestAnswer> {
  const request: AttestRequest = {
    csr: Buffer.from(buildCsr(by)).toString('base64'),
    payload: { type: 'join_token', token },
    agentVersion: '1',
    addresses: [],
  };
  return await attestation.begin(request, connection);
}

/** Of the certificates that are on record for a node. */
async function serialsOf(nodeId: SpiffeId): Promise<readonly string[]> {
  return (await issued.listCurrent(nodeId)).map(({ serial }) => serial);
}

describe('NodeAttestation', () => {
  test('lets a host in that asks again with its key because the answer was lost, also when the token has expired since', async () => {
    const { token, nodeId } = await makeToken();
    await ask(token);
    const first = await nodes.find(nodeId);
    clock.advance(700_000);
    expect(await ask(token)).toMatchObject({ kind: 'attested' });
    const second = await nodes.find(nodeId);
    expect(second?.certSerial).not.toBe(first?.certSerial);
    expect(second?.previousCertSerial).toBeNull();
    expect(await serialsOf(nodeId)).toContain(second?.certSerial ?? '');
  });

  test('lets nobody in by a token that another key used', async () => {
    const { token, nodeId } = await makeToken();
    await ask(token);
    expect(await refusalOf(ask(token, await generateP256Key()))).toMatchObject(invalid);
    expect(await serialsOf(nodeId)).toEqual([(await nodes.find(nodeId))?.certSerial ?? '']);
  });

  test('lets one of two in that ask at once with keys of their own, and leaves no certificate of the other', async () => {
    const { token, nodeId } = await makeToken();
    const other = await generateP256Key();
    const outcomes = await Promise.allSettled([ask(token), ask(token, other)]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(await serialsOf(nodeId)).toHaveLength(1);
  });

  test('lets a host not in again that has renewed, was evicted or is banned', async () => {
    const renewed = await makeToken();
    await ask(renewed.token);
    const { certSerial: presentedSerial = '' } = (await nodes.find(renewed.nodeId)) ?? {};
    const certificate = { serial: 'ab', notAfterMs: clock.nowMs() + 1000 };
    await nodes.recordRenewal({ nodeId: renewed.nodeId, presentedSerial, certificate });
    expect(await refusalOf(ask(renewed.token))).toMatchObject(invalid);
    const evicted = await makeToken();
    await ask(evicted.token);
    await nodes.evict(evicted.nodeId);
    expect(await refusalOf(ask(evicted.token))).toMatchObject(invalid);
    const banned = await makeToken();
    await ask(banned.token);
    await nodes.setBanned(banned.nodeId, true);
    expect(await refusalOf(ask(banned.token))).toMatchObject({ reason: 'node_banned' });
  });

  test('leaves a token as it was when the host may not have the name', async () => {
    const { token, nodeId } = await makeToken();
    const name = nodeId.split('/').at(-1) ?? '';
    const { token: second } = await tokens.create({ name, ttlSeconds: 600, addresses: [], createdBy: 'me' });
    await ask(token);
    expect(await refusalOf(ask(second, await generateP256Key()))).toMatchObject({ reason: 'node_exists' });
    await nodes.evict(nodeId);
    expect(await ask(second)).toMatchObject({ kind: 'attested' });
  });
});
