import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { Shop } from '../../kit/shop.ts';
import { authorityProfile, makeCertificate, USAGE, type TestCertificate } from '../../kit/test-authority.ts';
import {
  issueLeaf,
  opening,
  signIntermediate,
  tryMesh,
  type MeshAnswer,
  type MeshAttempt,
} from './mesh-client.ts';

/** Clients of port 15008 that are no workload of the mesh, and workloads that ask for what is not to be had. OpenSSL is the client. */

setDefaultTimeout(60_000);

const HOUR_MS = 3_600_000;
/** For an answer, which ends the waiting. */
const PATIENT_SECONDS = 20;
const WEB = 'spiffe://example.org/web';
const INVOICES = spiffeServerName(parseSpiffeId('spiffe://example.org/invoices'));
const GET = 'GET /invoices HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n';
let shop: Shop;
let intermediate: TestCertificate;
let web: TestCertificate;

beforeAll(async () => {
  shop = await Shop.open();
  intermediate = await signIntermediate(shop.mesh.control);
  web = await issueLeaf(intermediate, WEB);
}, 120_000);
afterAll(async () => await shop.close());

/** From the host without Picket to the mesh port of `store`, asking for its nginx unless `change` says otherwise. */
async function attempt(
  chain: readonly TestCertificate[] | undefined,
  change: Partial<MeshAttempt> = {},
): Promise<MeshAnswer> {
  return await tryMesh({
    from: shop.outsider,
    to: shop.store.host,
    serverName: INVOICES,
    send: opening(shop.store.host.ipv4, 80),
    request: dataFrame(GET),
    ...(chain === undefined ? {} : { credentials: { chain } }),
    ...change,
  });
}

function dataFrame(text: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(4, 0, 0, text.length), Buffer.from(text)]);
}

const typesOf = ({ frames }: MeshAnswer): readonly string[] => frames.map(({ type }) => type);

async function expectRefused(answer: MeshAnswer, before: number): Promise<void> {
  expect(typesOf(answer)).not.toContain('accept');
  expect(answer.data).toBe('');
  expect(await shop.countNginxRequests()).toBe(before);
}

async function ownAuthority(trustDomain: string): Promise<TestCertificate> {
  const now = Date.now();
  const life = { notBeforeMs: now - HOUR_MS, notAfterMs: now + HOUR_MS };
  return await makeCertificate({ ...authorityProfile(trustDomain), ...life });
}

/** What each client shows, by the words in the name of its test. */
const IMPOSTORS: Readonly<Record<string, () => Promise<readonly TestCertificate[] | undefined>>> = {
  'no certificate': () => Promise.resolve(undefined),
  'the certificate of an agent': async () => [
    await issueLeaf(intermediate, 'spiffe://example.org/picket/agent/join_token/desk'),
    intermediate,
  ],
  'the certificate of an operator': async () => [
    await issueLeaf(intermediate, 'spiffe://example.org/picket/operator/root'),
    intermediate,
  ],
  'the certificate of the server': async () => [
    await issueLeaf(intermediate, 'spiffe://example.org/picket/server'),
    intermediate,
  ],
  'a certificate of another trust domain': async () => {
    const authority = await ownAuthority('example.net');
    return [await issueLeaf(authority, 'spiffe://example.net/web'), authority];
  },
  'a certificate of this trust domain by another authority': async () => {
    const authority = await ownAuthority('example.org');
    return [await issueLeaf(authority, WEB), authority];
  },
  'a certificate of another trust domain by this authority': async () => [
    await issueLeaf(intermediate, 'spiffe://example.net/web'),
    intermediate,
  ],
  'an expired certificate': async () => [
    await issueLeaf(intermediate, WEB, { notAfterMs: Date.now() - 1000 }),
    intermediate,
  ],
  'a certificate of tomorrow': async () => [
    await issueLeaf(intermediate, WEB, {
      notBeforeMs: Date.now() + HOUR_MS,
      notAfterMs: Date.now() + 2 * HOUR_MS,
    }),
    intermediate,
  ],
  'a certificate that signed itself, before a chain that is trusted': async () => {
    const own = await issueLeaf(await ownAuthority('example.org'), WEB);
    return [own, web, intermediate];
  },
  'a trusted certificate without identity, before another one that has it': async () => [
    await issueLeaf(intermediate, WEB, { uris: [] }),
    web,
    intermediate,
  ],
  'a certificate that a workload signed': async () => [await issueLeaf(web, WEB), web, intermediate],
  'a certificate with two identities': async () => [
    await issueLeaf(intermediate, WEB, { uris: ['spiffe://example.org/nobody', WEB] }),
    intermediate,
  ],
  'a certificate that may sign others': async () => [
    await issueLeaf(intermediate, WEB, {
      isAuthority: true,
      keyUsage: [USAGE.digitalSignature, USAGE.keyCertSign],
    }),
    intermediate,
  ],
};

describe('a client of the mesh port', () => {
  test('that is a workload is let through: what is refused below is refused for its own reason', async () => {
    const answer = await attempt([web, intermediate], { seconds: PATIENT_SECONDS });
    expect(typesOf(answer)[0]).toBe('accept');
    expect(answer.data).toContain('HTTP/1.1 200');
  });

  for (const [name, make] of Object.entries(IMPOSTORS))
    test(`that shows ${name} is refused, and nginx never sees it`, async () => {
      const before = await shop.countNginxRequests();
      const chain = await make();
      const answer = await attempt(chain, { seconds: PATIENT_SECONDS });
      await expectRefused(answer, before);
      expect([name, answer.frames[0]]).toMatchObject([name, { type: 'reset', reasonCode: 12 }]);
    });

  test('that shows the intermediate itself does not get through the handshake: its key may not sign one', async () => {
    const before = await shop.countNginxRequests();
    const answer = await attempt([intermediate], { seconds: PATIENT_SECONDS });
    await expectRefused(answer, before);
    expect(answer.told).toContain('alert');
  });

  test('that speaks another protocol or an older TLS is refused', async () => {
    const before = await shop.countNginxRequests();
    for (const options of [['-alpn', 'http/1.1'], ['-tls1_2']])
      await expectRefused(await attempt([web, intermediate], { options }), before);
  });

  test('that names no server, or one that is not here, is refused', async () => {
    const before = await shop.countNginxRequests();
    const elsewhere = spiffeServerName(parseSpiffeId('spiffe://example.org/reports'));
    for (const serverName of [elsewhere, 'localhost', 'x'.repeat(32) + '.picket'])
      await expectRefused(await attempt([web, intermediate], { serverName }), before);
  });
});

describe('an opening', () => {
  const elsewhere: readonly (readonly [string, (own: string) => string, number])[] = [
    ['loopback', () => '127.0.0.1', 80],
    ['another address of loopback', () => '127.9.9.9', 5432],
    ['loopback of IPv6', () => `${'0'.repeat(31)}1`, 80],
    ['loopback within IPv6', () => `${'0'.repeat(20)}ffff7f000001`, 80],
    ['no address at all', () => '0.0.0.0', 80],
    ['no IPv6 address at all', () => '0'.repeat(32), 80],
    ['the metrics of the agent', () => '127.0.0.1', 15_020],
    ['another host', () => '10.9.0.1', 8443],
    ['a cloud’s metadata', () => '169.254.169.254', 80],
    ['a port at which nothing is registered', (own) => own, 22],
    ['the mesh port itself', (own) => own, 15_008],
    ['another workload of the host than the one of the certificate', (own) => own, 5432],
  ];
  for (const [name, addressOf, port] of elsewhere)
    test(`to ${name} is denied`, async () => {
      const send = opening(addressOf(shop.store.host.ipv4), port);
      const { frames } = await attempt([web, intermediate], { send, seconds: PATIENT_SECONDS });
      expect(frames[0]).toMatchObject({ type: 'deny', reasonCode: 11 });
    });
});
