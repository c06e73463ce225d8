import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { buildCsr, generateP256Key } from '../../../agent/identity/key-pair.ts';
import { readCsr } from '../../../server/ca/csr.ts';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { createTestCa } from '../../kit/test-ca.ts';
import type { Benchmark, BenchRun } from '../bench-run.ts';
import { ownRow } from '../compare.ts';
import type { Measure, Table } from '../measure.ts';

const name = 'issuing';
const title = 'Certificates issued by one core';
const SPIFFE_ID = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
/** Requests that are ready before the clock starts, as agents make their own. */
const REQUESTS = 64;

const issued: Measure = { name: 'X509-SVIDs', unit: '1/s', better: 'more', bound: 3000 };

/** What the authority does for each: read the request, verify its signature, check, sign. Without the network and the database. */
export const issuing: Benchmark = { name, title, isQuick: true, measure };

async function measure(run: BenchRun): Promise<Table> {
  run.progress(name);
  const folder = join(run.lab.folder, `issuing-${randomBytes(4).toString('hex')}`);
  const { authority } = await createTestCa({ folder, clock: systemClock });
  const requests: Uint8Array[] = [];
  for (let i = 0; i < REQUESTS; i++) requests.push(buildCsr(await generateP256Key()));
  const rates: number[] = [];
  for (let round = 0; round <= run.rounds; round++) {
    const endMs = performance.now() + run.seconds * 1000;
    const startedMs = performance.now();
    let count = 0;
    for (; performance.now() < endMs; count++) {
      const { publicKeySpki } = readCsr(requests[count % REQUESTS] ?? new Uint8Array());
      await authority.issue({ spiffeId: SPIFFE_ID, publicKeySpki, ttlSeconds: 3600, dnsNames: [] });
    }
    if (round > 0) rates.push((count / (performance.now() - startedMs)) * 1000);
  }
  return { name, title, rows: [ownRow(issued, rates)], notes: ['P-256, requests verified, keys in memory'] };
}
