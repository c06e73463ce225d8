import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage, policyAnswer } from '../../shared/protocol/operator.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { Child, run, runOk, type RunResult } from '../kit/child.ts';
import { DnsServer } from '../kit/dns.ts';
import { asUser, curl, startNginx, type CurlAnswer } from '../kit/programs.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { SshServer } from '../kit/ssh.ts';
import { waitUntil } from '../kit/wait.ts';

/** What leaves the mesh: by the name that it asks for, with real programs, a real DNS server, and the compiled binary. */

setDefaultTimeout(60_000);

const { web, reports, nobody } = SHOP_USERS;
const API = 'api.partner.test';
const MIRROR = 'mirror.partner.test';
const ELSEWHERE = 'elsewhere.partner.test';
const DNS_PORT = 53;
const SSH_PORT = 2222;
/** Every host of a test network has the same addresses each time; the fourth is the outsider. */
const OUTSIDER = '10.9.0.4';

let shop: Shop;
let dns: DnsServer;
let nginx: Child;
let sshd: SshServer;
let folder: string;

beforeAll(async () => {
  shop = await Shop.open({
    settings: {
      capture: { allow_udp: [{ address: OUTSIDER, port: DNS_PORT }] },
      egress: { resolvers: [`${OUTSIDER}:${DNS_PORT}`] },
    },
  });
  const { outsider } = shop;
  expect(outsider.ipv4).toBe(OUTSIDER);
  folder = join(shop.folder, 'outside');
  mkdirSync(folder);
  nginx = await startTlsServer();
  sshd = await SshServer.start(outsider, { folder: join(folder, 'ssh'), port: SSH_PORT });
  const addresses = [outsider.ipv4, outsider.ipv6];
  dns = await DnsServer.start({
    folder,
    address: outsider.ipv4,
    port: DNS_PORT,
    // The third is a name of the host of the mesh that the programs call from.
    records: { [API]: addresses, [MIRROR]: addresses, [ELSEWHERE]: [shop.desk.host.ipv4] },
    within: (...command) => outsider.in(...command),
  });
  const policy = join(import.meta.dirname, '../kit/policies/outside');
  await shop.mesh.control.picketOk('policy', 'publish', policy, '-m', 'names outside');
  await waitUntil('it is in force', async () => (await askTls(web, API)).status === 200, 30_000);
}, 120_000);
afterAll(async () => {
  await sshd?.stop();
  await nginx?.stop();
  await dns?.stop();
  await shop.close();
});

/** nginx of the outsider: TLS for whatever name, and plain HTTP. */
async function startTlsServer(): Promise<Child> {
  const [certificate, key] = [join(folder, 'tls.pem'), join(folder, 'tls.key')];
  const subject = ['-subj', '/CN=outside', '-days', '2'];
  await runOk([
    'openssl',
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    ...subject,
    '-keyout',
    key,
    '-out',
    certificate,
  ]);
  chownSync(key, 33, 33);
  const web = join(folder, 'nginx');
  mkdirSync(web);
  return await startNginx(shop.outsider, {
    folder: web,
    listen: ['80', '[::]:80', '443 ssl http2', '[::]:443 ssl http2'],
    locations: `ssl_certificate ${certificate}; ssl_certificate_key ${key};
      location / { default_type text/plain; return 200 "$request_method $host caller=$http_x_forwarded_client_cert\\n"; }`,
  });
}

/** An HTTPS request of a user on `desk` for a name, at the outsider whatever the name says. */
async function askTls(uid: number, name: string, address = shop.outsider.ipv4): Promise<CurlAnswer> {
  const at = address.includes(':') ? `[${address}]` : address;
  const args = ['-k', '--resolve', `${name}:443:${at}`, `https://${name}/`];
  return await curl(shop.desk.host, { uid, args });
}

/** A plain HTTP request, as `askTls`. */
async function ask(uid: number, name: string, ...more: readonly string[]): Promise<CurlAnswer> {
  const args = ['--resolve', `${name}:80:${shop.outsider.ipv4}`, `http://${name}/`, ...more];
  return await curl(shop.desk.host, { uid, args });
}

/** The newest record of what a user's identity asked for by a name. */
async function recorded(name: string, reason: AccessRecord['reason']): Promise<AccessRecord> {
  return await waitUntil(`${name} stands in the record: ${reason}`, async () => {
    const page = await shop.mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '200');
    return page.items.find((record) => record.server_name === name && record.reason === reason);
  });
}

describe('TLS out of the mesh', () => {
  test('goes to a name that the policy allows, by both families, and stands in the record', async () => {
    for (const address of [shop.outsider.ipv4, shop.outsider.ipv6]) {
      const { status, body } = await askTls(web, API, address);
      expect([status, body]).toEqual([200, `GET ${API} caller=\n`]);
    }
    expect(await recorded(API, 'policy_allow')).toMatchObject({
      caller_spiffe_id: 'spiffe://example.org/web',
      target_spiffe_id: null,
      direction: 'outbound',
      protocol: 'tls',
      decision: 'allow',
    });
  });

  test('goes to no other name, whoever asks, and tells the program’s user why', async () => {
    expect((await askTls(web, 'evil.partner.test')).status).toBe(0);
    expect(await recorded('evil.partner.test', 'egress_deny')).toMatchObject({ decision: 'deny' });
    expect(await shop.why(web)).toContain('egress_deny');
    expect((await askTls(reports, API)).status).toBe(0);
    expect((await askTls(nobody, API)).status).toBe(0);
  });

  test('does not go to another server under a name that is allowed', async () => {
    // The name leads to the outsider; who calls another address by it is lying.
    const liar = shop.mesh.network.hosts[0]!;
    expect((await askTls(web, API, liar.ipv4)).status).toBe(0);
    expect(await recorded(API, 'domain_unverified')).toMatchObject({ decision: 'deny', protocol: 'tls' });
  });

  test('that names nobody does not go', async () => {
    const client = ['openssl', 's_client', '-noservername', '-connect', `${shop.outsider.ipv4}:443`];
    const { stdout } = await run(shop.desk.host.in(...asUser(web, ...client)), { cwd: '/' });
    expect(stdout).not.toContain('BEGIN CERTIFICATE');
  });

  test('of names that the policy does not allow does not make the agent ask DNS', async () => {
    const secret = 'c2vjcmv0.exfiltrate.test';
    expect((await askTls(web, secret)).status).toBe(0);
    expect((await ask(web, secret)).status).toBe(403);
    await recorded(secret, 'egress_deny');
    expect(dns.asked).toContain(API);
    expect(dns.asked).not.toContain(secret);
  });
});

test('evaluate says what would leave', async () => {
  const caller = ['--caller', 'spiffe://example.org/web', '--direction', 'outbound'];
  const ask = async (...args: readonly string[]) =>
    (await shop.mesh.control.picketJson(policyAnswer, 'policy', 'evaluate', ...caller, ...args)).decision;
  expect(await ask('--domain', API, '--tls')).toBe('allow');
  expect(await ask('--domain', API)).toBe('deny');
  expect(await ask('--domain', MIRROR, '--method', 'GET')).toBe('allow');
  expect(await ask('--domain', ELSEWHERE, '--tls')).toBe('deny');
  expect(await ask('--target-id', 'spiffe://example.org/invoices')).toBe('allow');
});

describe('an HTTP request out of the mesh', () => {
  test('is decided by its method and the name that it asks for, and tells the other side nothing of who calls', async () => {
    const { status, body } = await ask(web, MIRROR);
    expect([status, body]).toEqual([200, `GET ${MIRROR} caller=\n`]);
    const denied = await ask(web, MIRROR, '-X', 'DELETE');
    expect(denied.status).toBe(403);
    expect(denialBody.parse(JSON.parse(denied.body)).reason).toBe('egress_deny');
    expect(await recorded(MIRROR, 'egress_deny')).toMatchObject({ method: 'DELETE', path: '/' });
  });

  test('does not get through by another Host, nor in plaintext by a name that is allowed for TLS', async () => {
    const forged = await ask(web, 'evil.partner.test', '-H', `Host: ${ELSEWHERE}`);
    expect(forged.status).toBe(403);
    expect((await ask(web, API)).status).toBe(403);
  });
});

describe('other protocols out of the mesh', () => {
  /** What SSH of the outsider says first to a user. */
  async function greet(uid: number): Promise<RunResult> {
    const script = `exec 3<>/dev/tcp/${shop.outsider.ipv4}/${SSH_PORT} && read -r -t 30 line <&3; echo "$line"`;
    return await run(shop.desk.host.in(...asUser(uid, 'bash', '-c', script)), { cwd: '/' });
  }

  test('go by address where the policy allows it, and wait for no words of the client', async () => {
    expect((await greet(reports)).stdout).toStartWith('SSH-2.0-OpenSSH');
  });

  test('do not go otherwise', async () => {
    expect((await greet(web)).stdout.trim()).toBe('');
  });
});

test('a connection that is open ends when the policy takes the name back, and requests within the mesh go on', async () => {
  const client = [
    'openssl',
    's_client',
    '-quiet',
    '-servername',
    API,
    '-connect',
    `${shop.outsider.ipv4}:443`,
  ];
  const held = new Child({
    command: shop.desk.host.in(...asUser(web, ...client)),
    logFile: join(folder, 'held.log'),
    cwd: '/',
    isTypedTo: true,
  });
  await waitUntil('it is open', async () => (await countConnections()) > 0);
  const policy = join(import.meta.dirname, '../kit/policies/shop');
  await shop.mesh.control.picketOk('policy', 'publish', policy, '-m', 'nothing leaves');
  await waitUntil('it is cut', async () => (await countConnections()) === 0, 30_000);
  expect((await shop.ask(web, '/invoices')).status).toBe(200);
  await held.stop();
});

/** Connections that the outsider's nginx holds at its TLS port. */
async function countConnections(): Promise<number> {
  const filter = ['state', 'established', 'sport = :443'];
  return (await runOk(shop.outsider.in('ss', '-tnH', ...filter))).trim().split('\n').filter(Boolean).length;
}
