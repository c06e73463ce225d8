import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, runOk, type Child, type RunResult } from '../kit/child.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { asUser, curl, isListening, startNginx, type CurlAnswer } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { SshServer } from '../kit/ssh.ts';
import { waitUntil } from '../kit/wait.ts';

/** What the mesh makes of connections that carry no HTTP, and of the TLS connections that carry them. */

setDefaultTimeout(60_000);

const { web, reports, nobody } = SHOP_USERS;
/** The application speaks first here; of another user nothing is allowed. */
const GREETING_PORT = 2022;
/** nginx has TLS here. */
const TLS_PORT = 8443;
/** Agents wait so long, in milliseconds, for the first word of a client of which nothing is allowed but requests. */
const SILENCE_MS = 10_000;
const POLICY = `${readFileSync(join(import.meta.dirname, '../kit/policies/shop/policy.rego'), 'utf8')}
allow if {
	input.caller.path == "/web"
	input.target.path == "/shell"
	input.request.protocol == "tcp"
}

allow if {
	input.caller.path == "/web"
	input.target.path == "/secure"
	input.request.sni == "open.shop.test"
	"h2" in input.request.alpn
}
`;
let shop: Shop;
let sshd: SshServer;
let nginx: Child;

beforeAll(async () => {
  shop = await Shop.open();
  const shell = { path: '/shell', selectors: ['unix:uid:0'], listen: [`${GREETING_PORT}`] };
  await shop.mesh.register({ ...shell, on: shop.store });
  sshd = await SshServer.start(shop.store.host, { folder: join(shop.folder, 'ssh'), port: GREETING_PORT });
  const secure = { path: '/secure', selectors: ['unix:user:www-data'], listen: [`${TLS_PORT}`] };
  await shop.mesh.register({ ...secure, on: shop.store });
  nginx = await startTls(join(shop.folder, 'tls'));
  const policy = join(shop.folder, 'policy');
  mkdirSync(policy);
  writeFileSync(join(policy, 'policy.rego'), POLICY);
  await shop.mesh.control.picketOk('policy', 'publish', policy, '-m', 'more than HTTP');
  await waitUntil('it is in force', async () => (await greet(web)).stdout !== '', 30_000);
}, 120_000);
afterAll(async () => {
  await nginx?.stop();
  await sshd?.stop();
  await shop.close();
});

/** An nginx of the store that speaks TLS for whatever name. */
async function startTls(folder: string): Promise<Child> {
  mkdirSync(folder);
  const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'certificate.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  await runOk(['openssl', 'req', '-x509', ...curve, '-nodes', '-subj', '/CN=shop', '-days', '2', ...files]);
  const nginx = await startNginx(shop.store.host, {
    folder,
    listen: [`${TLS_PORT} ssl http2`],
    locations: `ssl_certificate ${folder}/certificate.pem; ssl_certificate_key ${folder}/key.pem; location / { return 200 "$ssl_server_name\\n"; }`,
  });
  await nginx.ready('it listens', async () => await isListening(shop.store.host, TLS_PORT));
  return nginx;
}

/** bash as `uid` on `desk`, with PORT of the store open as descriptor 3. */
async function connect(uid: number, port: number, script: string): Promise<RunResult> {
  const open = `exec 3<>/dev/tcp/${shop.store.host.ipv4}/${port} && ${script}`;
  return await run(shop.desk.host.in(...asUser(uid, 'bash', '-c', open)), { cwd: '/' });
}

/** The first line that the application says by itself. */
async function greet(uid: number): Promise<RunResult> {
  return await connect(uid, GREETING_PORT, `read -r -t ${(2 * SILENCE_MS) / 1000} line <&3; echo "$line"`);
}

/** How many TLS handshakes an agent has had with others, by how they went. */
async function handshakes(host: MeshHost, side: 'caller' | 'called') {
  const text = await host.host.runOk('curl', '-sf', 'http://127.0.0.1:15020/metrics');
  const count = (outcome: string): number => {
    const labels = new RegExp(
      `^picket_mesh_handshakes_total\\{(?=.*side="${side}").*outcome="${outcome}".*\\} (\\d+)`,
      'm',
    );
    return Number(labels.exec(text)?.[1] ?? 0);
  };
  return { full: count('full'), resumed: count('resumed') };
}

describe('a TLS connection between agents', () => {
  test('carries one connection of a program after another', async () => {
    const before = await handshakes(shop.desk, 'caller');
    for (let i = 0; i < 10; i++) expect((await shop.ask(web, '/invoices')).status).toBe(200);
    for (let i = 0; i < 10; i++) expect((await shop.query(reports)).exitCode).toBe(0);
    const after = await handshakes(shop.desk, 'caller');
    // One may have been on its way back to the pool when the next was wanted.
    expect(after.full + after.resumed - before.full - before.resumed).toBeLessThanOrEqual(2);
  });

  test('resumes the session of an earlier one when there is none to take, and is decided like any other', async () => {
    const sides = async () =>
      await Promise.all([handshakes(shop.desk, 'caller'), handshakes(shop.store, 'called')]);
    const before = await sides();
    // The pool may hold two by now, and programs do not start at the same moment: more than would be needed.
    const together = Array.from({ length: 8 }, async () => await shop.query(reports, 'select pg_sleep(2)'));
    const others = Array.from({ length: 4 }, async () => await shop.query(web, 'select pg_sleep(2)'));
    for (const { exitCode } of await Promise.all(together)) expect(exitCode).toBe(0);
    for (const { exitCode } of await Promise.all(others)) expect(exitCode).not.toBe(0);
    const after = await sides();
    for (const [i, { resumed }] of after.entries())
      expect(resumed).toBeGreaterThanOrEqual(before[i]!.resumed + 3);
  });
});

describe('a connection', () => {
  test('to a server that speaks first is not held up', async () => {
    const startedMs = performance.now();
    expect((await greet(web)).stdout).toStartWith('SSH-2.0-OpenSSH');
    expect(performance.now() - startedMs).toBeLessThan(SILENCE_MS / 2);
  });

  test('that is denied is reset: on the calling side, and when the called side denies it', async () => {
    const speak = String.raw`printf '\0\0\0\x08\x04\xd2\x16\x2f' >&3; cat <&3`;
    for (const [uid, reason] of [
      [nobody, 'caller_unidentified'],
      [web, 'policy_deny'],
    ] as const) {
      const { stdout, stderr } = await connect(uid, 5432, speak);
      expect(stdout).toBe('');
      expect(stderr).toContain('Connection reset by peer');
      await waitUntil('it is told', async () => (await shop.why(uid)).includes(reason));
    }
    const { stdout, stderr } = await connect(reports, 5432, speak.replace('cat', 'head -c 1'));
    expect([stdout, stderr]).toEqual(['N', '']);
  });
});

describe('TLS of a program’s own', () => {
  async function ask(uid: number, name: string, ...args: readonly string[]): Promise<CurlAnswer> {
    const where = [
      '--resolve',
      `${name}:${TLS_PORT}:${shop.store.host.ipv4}`,
      `https://${name}:${TLS_PORT}/`,
    ];
    return await curl(shop.desk.host, { uid, args: ['-k', ...args, ...where] });
  }

  test('is decided by the name and the protocols that it asks for, and passes as it is', async () => {
    expect(await ask(web, 'open.shop.test')).toMatchObject({ status: 200, body: 'open.shop.test\n' });
    expect((await ask(web, 'open.shop.test', '--http1.1')).status).toBe(0);
    expect((await ask(web, 'closed.shop.test')).status).toBe(0);
    expect((await ask(reports, 'open.shop.test')).status).toBe(0);
    await waitUntil('it is told', async () => (await shop.why(reports)).includes('policy_deny'));
  });
});
