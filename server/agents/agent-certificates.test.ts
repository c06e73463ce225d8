import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCsr, generateP256Key } from '../../agent/identity/key-pair.ts';
import type { SignAnswer } from '../../shared/protocol/signing.ts';
import {
  openTestPglite,
  silentLog,
  TEST_TRUST_DOMAIN,
  type TestDatastore,
} from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testAttestation, testEntry, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { createTestCa } from '../../tests/kit/test-ca.ts';
import { Quarantines } from '../quarantine/quarantines.ts';
import { readQuarantineItems } from '../quarantine/quarantine-items.ts';
import { Registration } from '../registration/registration.ts';
import { AgentCertificates, type AgentCertificatesOptions } from './agent-certificates.ts';
import { IssuedSvids } from './issued-svids.ts';
import { Nodes } from './nodes.ts';

const NODE = testAgentId('one');
let folder: string;
let kept: TestDatastore;
let quarantines: Quarantines;
let options: AgentCertificatesOptions;
let entryIds: readonly string[];

beforeEach(async () => {
  kept = await openTestPglite();
  const { datastore } = kept;
  const clock = new FakeClock(Date.now());
  quarantines = new Quarantines({ datastore, clock });
  const registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
  const nodes = new Nodes({ datastore, clock, log: silentLog });
  await nodes.recordAttestation(testAttestation('one'));
  const entries = [];
  for (const path of ['/ns/a', '/ns/ab']) entries.push(await registration.create(testEntry('one', path)));
  entryIds = entries.map(({ entryId }) => entryId);
  folder = mkdtempSync(join(tmpdir(), 'picket-sign-'));
  const { authority } = await createTestCa({ folder, clock });
  options = {
    authority,
    nodes,
    registration,
    issued: new IssuedSvids({ datastore, clock }),
    quarantines,
    agentTtlSeconds: 3600,
  };
});
afterEach(async () => {
  rmSync(folder, { recursive: true, force: true });
  await kept.dispose();
});

async function sign(change: Partial<AgentCertificatesOptions> = {}): Promise<SignAnswer['results']> {
  const requests = await Promise.all(
    entryIds.map(async (entryId) => ({
      entryId,
      csr: Buffer.from(buildCsr(await generateP256Key())).toString('base64'),
    })),
  );
  const certificates = new AgentCertificates({ ...options, ...change });
  return (await certificates.sign(NODE, { requests })).results;
}

function outcomes(results: SignAnswer['results']): readonly string[] {
  return results.map((result) => (result.kind === 'issued' ? 'issued' : result.problem.reason));
}

async function quarantine(kind: 'workload' | 'segment', path: string): Promise<void> {
  await quarantines.add({ kind, subject: testWorkloadId(path), reason: 'because', createdBy: 'me' });
}

describe('AgentCertificates.sign()', () => {
  test('gives nothing to who is in quarantine, and the others what they ask for', async () => {
    expect(outcomes(await sign())).toEqual(['issued', 'issued']);
    await quarantine('segment', '/ns/a');
    expect(outcomes(await sign())).toEqual(['quarantined', 'issued']);
    await quarantines.add({ kind: 'node', subject: NODE, reason: 'because', createdBy: 'me' });
    expect(outcomes(await sign())).toEqual(['quarantined', 'quarantined']);
  });

  test('lets nothing out that was signed while the quarantine came', async () => {
    const { issued } = options;
    const results = await sign({
      issued: {
        record: async (issues) => {
          await issued.record(issues);
          await quarantine('workload', '/ns/a');
        },
      },
    });
    expect(outcomes(results)).toEqual(['quarantined', 'issued']);
  });

  test('of a node that is quarantined afterwards every certificate is told to the others', async () => {
    const results = await sign();
    expect(outcomes(results)).toEqual(['issued', 'issued']);
    await quarantines.add({ kind: 'node', subject: NODE, reason: 'because', createdBy: 'me' });
    const [item] = await kept.datastore.readSnapshot(async (db) => await readQuarantineItems(db));
    expect(item?.value.serials).toHaveLength(2);
  });
});
