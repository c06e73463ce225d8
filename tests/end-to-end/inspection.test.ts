import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { chmodSync, copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { statusAnswer } from '../../agent/admin/admin-answers.ts';
import { REFUSED_MS } from '../../agent/egress/handshake-places.ts';
import { policyAnswer } from '../../shared/protocol/operator.ts';
import { Child, run, runOk } from '../kit/child.ts';
import { GATEWAY, GATEWAY_USERS, GatewayMesh, OUTSIDE, OUTSIDE_OPEN_PORT } from '../kit/gateway-mesh.ts';
import { makeInspectionAuthority } from '../kit/inspection-authority.ts';
import { asUser, curl, type CurlAnswer } from '../kit/programs.ts';
import { denialBody } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** TLS that is inspected on its way out of the mesh, by the program's agent and by a gateway, with real programs and the compiled binary. */

setDefaultTimeout(90_000);

const { web, nobody } = GATEWAY_USERS;
const UNRESOLVED = 'nowhere.partner.test';

/** What leaves by the gateway and directly, inspected; and one name that is not. */
const POLICY = `package picket.authz

default allow := false

default egress := false

egress if input.target.spiffe_id != ""

# The connection, as its ClientHello is seen, and then each request within.
may_pass if input.request.protocol == "tls"

may_pass if {
	input.request.method == "GET"
	startswith(input.request.path, "/public")
}

egress := {"allowed": true, "via": "${GATEWAY}", "inspect": true} if {
	input.caller.path == "/web"
	input.target.domain == "${OUTSIDE.api}"
	may_pass
}

egress := {"allowed": true, "inspect": true, "server_certificate": {"authority": "partner"}} if {
	input.caller.path == "/web"
	input.target.domain in {"${OUTSIDE.direct}", "${UNRESOLVED}"}
	may_pass
}

egress if {
	input.caller.path == "/web"
	input.target.domain == "${OUTSIDE.opened}"
	input.request.protocol == "tls"
}
`;

let rig: GatewayMesh;

beforeAll(async () => {
  rig = await GatewayMesh.open({ inspects: true });
  await rig.publish(POLICY);
  await waitUntil('it is in force', async () => (await ask(OUTSIDE.api, '/public/x')).status === 200, 60_000);
}, 300_000);
afterAll(async () => await rig?.close());

const portOf = (name: string): number => (name === OUTSIDE.api ? 443 : OUTSIDE_OPEN_PORT);

/** An HTTPS request of the user `web` on `desk`, who trusts `ca`, the inspection unless given. */
async function ask(
  name: string,
  path: string,
  {
    more = [],
    ca = rig.inspection.certificate,
    uid = web,
  }: {
    readonly more?: readonly string[];
    readonly ca?: string;
    readonly uid?: number;
  } = {},
): Promise<CurlAnswer> {
  const port = portOf(name);
  const at = ['--resolve', `${name}:${port}:${rig.outsider.ipv4}`];
  return await curl(rig.desk.host, {
    uid,
    args: ['--cacert', ca, ...at, ...more, `https://${name}:${port}${path}`],
  });
}

/** The certificate that a program sees. */
async function certificateOf(name: string): Promise<X509Certificate> {
  const client = [
    'openssl',
    's_client',
    '-servername',
    name,
    '-connect',
    `${rig.outsider.ipv4}:${portOf(name)}`,
  ];
  const { stdout } = await run(rig.desk.host.in(...asUser(web, ...client)), { stdin: '', cwd: '/' });
  return new X509Certificate(/-----BEGIN[\s\S]+?-----END CERTIFICATE-----/.exec(stdout)?.[0] ?? '');
}

describe.each([
  { how: 'by the gateway', name: OUTSIDE.api, from: () => rig.gate },
  { how: 'directly', name: OUTSIDE.direct, from: () => rig.desk },
])('$how', ({ name, from }) => {
  const recorder = name === OUTSIDE.api ? ('inbound' as const) : ('outbound' as const);

  test.each(['--http1.1', '--http2'])(
    'requests are decided one by one within TLS, by curl %s',
    async (version) => {
      const { status, body } = await ask(name, '/public/x', { more: [version] });
      expect([status, body]).toEqual([200, `GET ${name} from=${from().host.ipv4}\n`]);
      const whom = { server_name: name, inspected: true as const, direction: recorder };
      await rig.recorded({ ...whom, method: 'GET', path: '/public/x', decision: 'allow' });
      await rig.recorded({ ...whom, protocol: 'tls', decision: 'allow' });
      for (const denied of [
        await ask(name, '/secret?token=hush', { more: [version] }),
        await ask(name, '/public/x', { more: [version, '-X', 'DELETE'] }),
      ])
        expect([denied.status, denialBody.parse(JSON.parse(denied.body)).reason]).toEqual([
          403,
          'egress_deny',
        ]);
      await rig.recorded({ ...whom, method: 'DELETE', decision: 'deny', reason: 'egress_deny' });
      await rig.recorded({ ...whom, path: '/secret?token=*', decision: 'deny' });
    },
  );

  test('the other side is told nothing of who calls, whatever the program says', async () => {
    const more = ['-H', 'X-Forwarded-Client-Cert: URI=spiffe://example.org/web'];
    expect((await ask(name, '/public/caller', { more })).body).toBe('caller=\n');
  });

  test('a request for another host than the server has proven does not pass', async () => {
    const { status, body } = await ask(name, '/public/x', { more: ['-H', `Host: ${OUTSIDE.opened}`] });
    expect([status, denialBody.parse(JSON.parse(body)).reason]).toEqual([403, 'domain_unverified']);
  });

  test('the program sees a certificate of the inspection’s, for that name alone and for half a day', async () => {
    const shown = await certificateOf(name);
    expect(shown.checkIssued(new X509Certificate(readFileSync(rig.inspection.certificate)))).toBe(true);
    expect(shown.subjectAltName).toBe(`DNS:${name}`);
    expect(Date.parse(shown.validTo) - Date.now()).toBeLessThan(13 * 3_600_000);
  });

  test('a program that trusts somebody else alone is not served, and the record says why', async () => {
    expect((await ask(name, '/public/x', { ca: rig.certificates.partner.certificate })).status).toBe(0);
    await rig.recorded({ server_name: name, reason: 'inspection_refused', direction: recorder });
  });

  test('a server that does not prove itself is refused, and not signed anew', async () => {
    await rig.server.present(rig.certificates.stranger);
    const { status } = await ask(name, '/public/x', { more: ['-k'] });
    const refusedMs = performance.now();
    await rig.server.present(rig.certificates.partner);
    expect(status).toBe(0);
    await rig.recorded({
      server_name: name,
      reason: 'certificate_refused',
      decision: 'deny',
      direction: recorder,
    });
    // The worker that was refused does not ask again for a second; another one does.
    await waitUntil('nobody remembers it', () => performance.now() > refusedMs + REFUSED_MS);
    expect((await ask(name, '/public/x')).status).toBe(200);
  });
});

test('what is not to be inspected is untouched: the program sees the server’s own certificate', async () => {
  const own = new X509Certificate(readFileSync(rig.certificates.partner.certificate));
  expect((await certificateOf(OUTSIDE.opened)).fingerprint256).toBe(own.fingerprint256);
  const { status } = await ask(OUTSIDE.opened, '/secret', {
    ca: join(rig.folder, 'authority/certificate.pem'),
  });
  expect(status).toBe(200);
  expect(await rig.recorded({ server_name: OUTSIDE.opened, decision: 'allow' })).not.toHaveProperty(
    'inspected',
  );
});

test('a name that DNS does not lead there, and another identity, get nothing', async () => {
  expect((await ask(UNRESOLVED, '/public/x')).status).toBe(0);
  await rig.recorded({ server_name: UNRESOLVED, reason: 'domain_unverified' });
  expect((await ask(OUTSIDE.direct, '/public/x', { uid: nobody })).status).toBe(0);
});

test('no workload can read the authority’s key', async () => {
  const { exitCode } = await run(rig.desk.host.in(...asUser(web, 'cat', rig.inspection.key)), { cwd: '/' });
  expect(exitCode).not.toBe(0);
});

test('the user is told why it was refused, without what the query held', async () => {
  expect((await ask(OUTSIDE.direct, '/secret?token=hush')).status).toBe(403);
  const { stdout } = await rig.desk.picket(['why', '--last', '1'], { uid: web });
  expect(stdout).toContain('GET /secret?token=* at ');
  expect(await rig.desk.picketOk('why', '--last', '1000', '--json')).not.toContain('hush');
});

test('operators see which decisions were made within TLS', async () => {
  const list = await rig.mesh.control.picketOk('audit', 'access', '--limit', '200');
  expect(list).toContain('GET /public/x within TLS');
});

test('status and doctor tell of the authority', async () => {
  const status = statusAnswer.parse(JSON.parse(await rig.desk.picketOk('agent', 'status', '--json')));
  expect(status.inspection?.authority).toContain('CN=Inspection CA');
  expect(await rig.desk.picketOk('agent', 'status')).toContain('CN=Inspection CA');
  expect((await rig.gate.examine()).outcomes).toMatchObject({ 'agent inspection': 'ok' });
});

test('evaluate says that it would be inspected', async () => {
  const caller = [
    '--caller',
    'spiffe://example.org/web',
    '--direction',
    'outbound',
    '--domain',
    OUTSIDE.api,
    '--tls',
  ];
  const answerOf = async (...more: readonly string[]) =>
    await rig.mesh.control.picketJson(policyAnswer, 'policy', 'evaluate', ...caller, ...more);
  expect(await answerOf()).toMatchObject({ decision: 'allow', inspect: true, via: GATEWAY });
  expect(await answerOf('--method', 'GET', '--path', '/public')).toMatchObject({
    decision: 'allow',
    inspect: true,
  });
  expect(await answerOf('--method', 'GET', '--path', '/secret')).toMatchObject({ decision: 'deny' });
  expect(await rig.mesh.control.picketOk('policy', 'evaluate', ...caller)).toContain('inspected');
});

test('a connection that is open ends when the policy does not have it inspected any more', async () => {
  const client = [
    'openssl',
    's_client',
    '-quiet',
    '-servername',
    OUTSIDE.api,
    '-connect',
    `${rig.outsider.ipv4}:443`,
  ];
  const held = new Child({
    command: rig.desk.host.in(...asUser(web, ...client)),
    logFile: join(rig.folder, 'held.log'),
    cwd: '/',
    isTypedTo: true,
  });
  await waitUntil('it is open', async () => (await countConnections()) > 0);
  await rig.publish(POLICY.replace(', "inspect": true} if', '} if'));
  await waitUntil('it is cut', async () => (await countConnections()) === 0, 30_000);
  await held.stop();
  await rig.publish(POLICY);
  await waitUntil(
    'it is inspected again',
    async () => (await ask(OUTSIDE.api, '/public/x')).status === 200,
    60_000,
  );
});

test('a new authority is taken up by an upgrade, of the agent and of the gateway', async () => {
  const next = await makeInspectionAuthority(join(rig.folder, 'next'));
  copyFileSync(next.certificate, rig.inspection.certificate);
  copyFileSync(next.key, rig.inspection.key);
  for (const [host, name] of [
    [rig.gate, OUTSIDE.api],
    [rig.desk, OUTSIDE.direct],
  ] as const) {
    // Until then the old one is in use, which the program trusts no more.
    expect((await ask(name, '/public/x')).status).toBe(0);
    await host.upgrade();
    expect((await ask(name, '/public/x')).status).toBe(200);
  }
});

test('a host whose authority cannot be used does not start its agent', async () => {
  await rig.desk.stop();
  chmodSync(rig.inspection.key, 0o644);
  const agent = rig.desk.launch();
  await waitUntil('it has ended', () => !agent.isRunning, 30_000);
  expect(rig.desk.log()).toContain('others may read or write it');
  chmodSync(rig.inspection.key, 0o600);
  await rig.desk.stop();
  await rig.desk.start();
  await waitUntil(
    'it inspects again',
    async () => (await ask(OUTSIDE.direct, '/public/x')).status === 200,
    60_000,
  );
});

/** Connections that the outsider's nginx holds at its usual TLS port. */
async function countConnections(): Promise<number> {
  const filter = ['state', 'established', 'sport = :443'];
  return (await runOk(rig.outsider.in('ss', '-tnH', ...filter))).trim().split('\n').filter(Boolean).length;
}
