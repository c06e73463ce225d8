import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { whyAnswer } from '../../../agent/admin/admin-answers.ts';
import { isListening } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { authorityProfile, makeCertificate, type TestCertificate } from '../../kit/test-authority.ts';
import { waitUntil } from '../../kit/wait.ts';
import { issueLeaf, signIntermediate, writeCredentials } from './mesh-client.ts';

/** Somebody who has taken the address of a host and answers at its mesh port: he is told nothing, not even what is asked. OpenSSL is the impostor. */

setDefaultTimeout(60_000);

const HOUR_MS = 3_600_000;
const MESH_PORT = 15_008;
const INVOICES = 'spiffe://example.org/invoices';
const { web } = SHOP_USERS;
let shop: Shop;
let intermediate: TestCertificate;

beforeAll(async () => {
  shop = await Shop.open();
  intermediate = await signIntermediate(shop.mesh.control);
  const { store, outsider, desk } = shop;
  await store.stop();
  const address = `${store.host.ipv4}/24`;
  await store.host.runOk('ip', 'addr', 'del', address, 'dev', 'eth0');
  await outsider.runOk('ip', 'addr', 'add', address, 'dev', 'eth0');
  await desk.host.runOk('ip', 'neigh', 'flush', 'all');
}, 120_000);
afterAll(async () => await shop.close());

interface Impostor {
  readonly chain: readonly TestCertificate[];
  /** More options of `openssl s_server`. */
  readonly options?: readonly string[];
  /** What it says once TLS stands. */
  readonly says?: Uint8Array;
  /** How long the caller waits for an answer. */
  readonly seconds?: number;
}

interface Encounter {
  /** 0: no HTTP answer. */
  readonly status: number;
  /** What the impostor was told within TLS. */
  readonly heard: Buffer;
  /** Why the caller’s own host refused, as it tells the caller. */
  readonly why: string | undefined;
}

/** What becomes of a request to the host whose address was taken. */
async function meet({ chain, options = [], says, seconds = 15 }: Impostor): Promise<Encounter> {
  const { leafFile, othersFile, keyFile } = await writeCredentials(chain, shop.folder);
  const rest = chain.length === 1 ? [] : ['-cert_chain', othersFile];
  const accept = ['-accept', `${shop.store.host.ipv4}:${MESH_PORT}`, '-naccept', '1', '-verify', '4'];
  const own = ['-cert', leafFile, '-key', keyFile, ...rest, '-alpn', 'picket/1', '-quiet'];
  const command = shop.outsider.in('openssl', 's_server', ...accept, ...own, ...options);
  const child = Bun.spawn(command, { stdin: 'pipe', stdout: 'pipe', stderr: 'ignore', timeout: 30_000 });
  const heard = new Response(child.stdout).bytes();
  await waitUntil('it listens', async () => await isListening(shop.outsider, MESH_PORT));
  if (says !== undefined) void child.stdin.write(says);
  await child.stdin.flush();
  const { status } = await shop.ask(web, '/invoices', '--max-time', String(seconds));
  child.kill('SIGKILL');
  // The next one listens at the same port.
  await child.exited;
  return { status, heard: Buffer.from(await heard), why: await newestReason() };
}

/** Why the newest denial was, as the caller’s own host tells it. */
async function newestReason(): Promise<string | undefined> {
  return whyAnswer.parse(JSON.parse(await shop.why(web))).denials[0]?.record.reason;
}

const leafOf =
  (spiffeId: string, change: Parameters<typeof issueLeaf>[2] = {}) =>
  async (): Promise<readonly TestCertificate[]> => [
    await issueLeaf(intermediate, spiffeId, change),
    intermediate,
  ];

async function ownAuthority(trustDomain: string): Promise<TestCertificate> {
  const life = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS };
  return await makeCertificate({ ...authorityProfile(trustDomain), ...life });
}

/** What each shows, by the words in the name of its test. */
const IMPOSTORS: Readonly<Record<string, () => Promise<readonly TestCertificate[]>>> = {
  'the certificate of another workload of the mesh': leafOf('spiffe://example.org/database'),
  'the certificate of the agent of that host': leafOf('spiffe://example.org/picket/agent/join_token/store'),
  'the certificate of the server': leafOf('spiffe://example.org/picket/server'),
  'an expired certificate': leafOf(INVOICES, { notAfterMs: Date.now() - 1000 }),
  'a certificate of tomorrow': leafOf(INVOICES, {
    notBeforeMs: Date.now() + HOUR_MS,
    notAfterMs: Date.now() + 2 * HOUR_MS,
  }),
  'a certificate with two identities': leafOf(INVOICES, {
    uris: [INVOICES, 'spiffe://example.org/database'],
  }),
  'a certificate that names the host and no identity': leafOf(INVOICES, { uris: [], dnsNames: ['store'] }),
  'a certificate of its own authority': async () => {
    const authority = await ownAuthority('example.org');
    return [await issueLeaf(authority, INVOICES), authority];
  },
  'a certificate that signed itself, before a chain that is trusted': async () => {
    const own = await issueLeaf(await ownAuthority('example.org'), INVOICES);
    return [own, ...(await leafOf(INVOICES)())];
  },
  'a certificate of another trust domain': async () => {
    const authority = await ownAuthority('example.net');
    return [await issueLeaf(authority, 'spiffe://example.net/invoices'), authority];
  },
};

describe('an impostor at the address of a host', () => {
  test('is asked when he has stolen the workload’s key as well: what is refused below is refused for its own reason', async () => {
    const { heard } = await meet({ chain: await leafOf(INVOICES)(), seconds: 5 });
    // The opening of the tunnel.
    expect(heard[0]).toBe(1);
  });

  for (const [name, make] of Object.entries(IMPOSTORS))
    test(`that shows ${name} hears nothing`, async () => {
      const { status, heard, why } = await meet({ chain: await make() });
      expect(status).toBe(0);
      expect(heard.length).toBe(0);
      expect(why).toBe('target_untrusted');
    });

  test('that speaks an older TLS, or another protocol, hears nothing', async () => {
    const chain = await leafOf(INVOICES)();
    for (const options of [['-tls1_2'], ['-alpn', 'h2']]) {
      const { status, heard, why } = await meet({ chain, options });
      expect(status).toBe(0);
      expect(heard.length).toBe(0);
      expect(why).toBeOneOf(['target_untrusted', 'target_unreachable']);
    }
  });

  test('that shows the right certificate and speaks nonsense is given up', async () => {
    const chain = await leafOf(INVOICES)();
    const nonsense: readonly Uint8Array[] = [
      Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted'),
      // Data before the opening was accepted.
      Buffer.from('0400000a68656c6c6f68656c6c6f', 'hex'),
      // A denial without end, one whose text is no text, and one that gives an allow as its reason.
      Buffer.from(`03ffffff${'00'.repeat(64)}`, 'hex'),
      Buffer.from(`03000019${'ff'.repeat(25)}`, 'hex'),
      Buffer.from(`0300001100${'00'.repeat(16)}`, 'hex'),
      // Two accepts, and what only clients send.
      Buffer.from('0200000002000000', 'hex'),
      Buffer.from('01000000', 'hex'),
      Buffer.alloc(32 * 1024, 7),
    ];
    for (const says of nonsense) {
      const { status, why } = await meet({ chain, says });
      expect(status).toBe(0);
      expect(why).toBeOneOf(['protocol_error', 'policy_deny']);
    }
    expect(await shop.desk.isReady()).toBe(true);
  });

  test('that accepts connections and says nothing is waited for within bounds', async () => {
    const listener = Bun.spawn(
      shop.outsider.in('nc', '-lk', '-s', shop.store.host.ipv4, '-p', String(MESH_PORT)),
      {
        stdin: 'ignore',
        stdout: 'ignore',
      },
    );
    await waitUntil('it listens', async () => await isListening(shop.outsider, MESH_PORT));
    const startMs = performance.now();
    const { status } = await shop.ask(web, '/invoices', '--max-time', '20');
    expect(status).toBe(0);
    expect(performance.now() - startMs).toBeLessThan(15_000);
    expect(await newestReason()).toBe('target_unreachable');
    listener.kill();
    await listener.exited;
  });
});
