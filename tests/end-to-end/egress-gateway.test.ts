import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { DECISION_REASONS } from '../../shared/policy/decision.ts';
import { policyAnswer } from '../../shared/protocol/operator.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { Child, run, runOk } from '../kit/child.ts';
import {
  GATEWAY,
  GATEWAY_USERS,
  GatewayMesh,
  OUTSIDE,
  OUTSIDE_OPEN_PORT,
  OUTSIDE_SSH_PORT,
} from '../kit/gateway-mesh.ts';
import { asUser } from '../kit/programs.ts';
import { denialBody } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** What leaves the mesh by a gateway and to servers whose certificate the policy names, with real programs and the compiled binary. */

setDefaultTimeout(90_000);

const { web, reports, prober, nobody } = GATEWAY_USERS;

let rig: GatewayMesh;

beforeAll(async () => {
  rig = await GatewayMesh.open();
}, 240_000);
afterAll(async () => await rig?.close());

/** What the outsider's nginx says to whom it sees the gateway in. */
function answerTo(name: string, method = 'GET'): string {
  return `${method} ${name} from=${rig.gate.host.ipv4}\n`;
}

describe('by the gateway', () => {
  test('TLS goes to a name that the policy sends there, from the gateway’s address, and both hosts record it', async () => {
    const { status, body } = await rig.askTls(web, OUTSIDE.api);
    expect([status, body]).toEqual([200, answerTo(OUTSIDE.api)]);
    const caller = parseSpiffeId('spiffe://example.org/web');
    const whom = { caller_spiffe_id: caller, server_name: OUTSIDE.api, via: GATEWAY };
    const asked = await rig.recorded({ ...whom, direction: 'outbound', decision: 'allow' });
    // One connection, one id, two deciders.
    const taken = await rig.recorded({ direction: 'inbound', decision_id: asked.decision_id });
    expect(taken).toMatchObject({ ...whom, decision: 'allow', protocol: 'tls', target_spiffe_id: null });
  });

  test('requests go each by its own method, and are refused by the policy as everywhere', async () => {
    const { status, body } = await rig.ask(web, OUTSIDE.mirror);
    expect([status, body]).toEqual([200, answerTo(OUTSIDE.mirror)]);
    const denied = await rig.ask(web, OUTSIDE.mirror, '-X', 'DELETE');
    expect([denied.status, denialBody.parse(JSON.parse(denied.body)).reason]).toEqual([403, 'egress_deny']);
    await rig.recorded({ server_name: OUTSIDE.mirror, method: 'GET', direction: 'inbound', via: GATEWAY });
  });

  test('protocols in which the server speaks first go by their address', async () => {
    const script = `exec 3<>/dev/tcp/${rig.outsider.ipv4}/${OUTSIDE_SSH_PORT} && read -r -t 30 line <&3; echo "$line"`;
    const greet = async (uid: number): Promise<string> =>
      (await run(rig.desk.host.in(...asUser(uid, 'bash', '-c', script)), { cwd: '/' })).stdout;
    expect(await greet(reports)).toStartWith('SSH-2.0-OpenSSH');
    expect((await greet(web)).trim()).toBe('');
  });

  test('nothing goes to another name, for another identity, or for a program without one', async () => {
    expect((await rig.askTls(web, 'evil.partner.test')).status).toBe(0);
    await rig.recorded({ server_name: 'evil.partner.test', reason: 'egress_deny', decision: 'deny' });
    expect((await rig.askTls(reports, OUTSIDE.api)).status).toBe(0);
    expect((await rig.askTls(nobody, OUTSIDE.api)).status).toBe(0);
  });

  test('nothing goes to the servers of the mesh, though the policy lets it', async () => {
    const { ipv4 } = rig.mesh.control.host;
    const connect = `exec 3<>/dev/tcp/${ipv4}/8443 && read -r -t 20 line <&3; echo "$line"`;
    await run(rig.desk.host.in(...asUser(prober, 'bash', '-c', connect)), { cwd: '/' });
    const refused = await rig.recorded({
      destination: `${ipv4}:8443`,
      direction: 'inbound',
      decision: 'deny',
    });
    expect(refused).toMatchObject({ reason: 'egress_deny', via: GATEWAY, policy_version: null });
  });
});

describe('a certificate that the policy names', () => {
  test('lets a connection out where the server proves it, by its key or by its authority', async () => {
    for (const name of [OUTSIDE.pinned, OUTSIDE.vouched]) {
      const { status, body } = await rig.askTls(web, name);
      expect([name, status, body]).toEqual([name, 200, answerTo(name)]);
    }
  });

  test('keeps it in where the server has another key, and the record says which', async () => {
    expect((await rig.askTls(web, OUTSIDE.wrong)).status).toBe(0);
    const refused = await rig.recorded({
      server_name: OUTSIDE.wrong,
      reason: 'certificate_refused',
      direction: 'inbound',
    });
    const hex = Buffer.from(rig.certificates.partner.pin, 'base64').toString('hex');
    expect(refused.message).toContain(hex);
    // The program's own host was told.
    await rig.recorded({ server_name: OUTSIDE.wrong, reason: 'certificate_refused', direction: 'outbound' });
    expect(await rig.desk.picketOk('why', '--last', '1')).toMatch(/certificate_refused .* the other host /);
  });

  test('is asked for without a gateway too, by whoever dials', async () => {
    const { status, body } = await rig.askTls(web, OUTSIDE.direct, OUTSIDE_OPEN_PORT);
    expect([status, body]).toEqual([200, `GET ${OUTSIDE.direct} from=${rig.desk.host.ipv4}\n`]);
  });

  test('is not proven by a program that speaks no TLS', async () => {
    expect((await rig.ask(web, OUTSIDE.pinned)).status).toBe(403);
    await rig.recorded({ server_name: OUTSIDE.pinned, protocol: 'http', decision: 'deny' });
  });

  test('may be rotated to another that the policy names, and to none that it does not', async () => {
    await rig.server.present(rig.certificates.next);
    expect((await rig.askTls(web, OUTSIDE.pinned)).status).toBe(200);
    await rig.server.present(rig.certificates.stranger);
    const refused = {
      server_name: OUTSIDE.pinned,
      reason: 'certificate_refused',
      direction: 'inbound',
    } as const;
    // One that fails for another reason is asked again.
    await waitUntil(
      'what was proven counts no more',
      async () =>
        (await rig.askTls(web, OUTSIDE.pinned)).status === 0 && (await rig.findRecord(refused)) !== undefined,
      100_000,
    );
    await waitUntil(
      'nor for the authority',
      async () => (await rig.askTls(web, OUTSIDE.vouched)).status === 0,
      100_000,
    );
    await rig.server.present(rig.certificates.partner);
    await waitUntil(
      'it is let out again',
      async () => (await rig.askTls(web, OUTSIDE.pinned)).status === 200,
    );
  }, 300_000);
});

test('TLS is not inspected by a host that has no authority for it: nothing leaves, and the record says why', async () => {
  expect((await rig.askTls(web, OUTSIDE.opened, OUTSIDE_OPEN_PORT)).status).toBe(0);
  const refused = await rig.recorded({ server_name: OUTSIDE.opened, decision: 'deny' });
  expect(refused).toMatchObject({ reason: 'inspection_not_configured', inspected: true, protocol: 'tls' });
  expect((await rig.desk.examine()).outcomes).toMatchObject({ 'agent inspection': 'ok' });
});

test('evaluate says by which gateway, and what the server must prove', async () => {
  const caller = ['--caller', 'spiffe://example.org/web', '--direction', 'outbound', '--tls'];
  const ask = async (name: string) =>
    await rig.mesh.control.picketJson(policyAnswer, 'policy', 'evaluate', ...caller, '--domain', name);
  expect(await ask(OUTSIDE.vouched)).toMatchObject({
    decision: 'allow',
    via: GATEWAY,
    serverCertificate: { authority: 'partner' },
  });
  expect(await ask(OUTSIDE.api)).not.toHaveProperty('serverCertificate');
  const text = await rig.mesh.control.picketOk('policy', 'evaluate', ...caller, '--domain', OUTSIDE.pinned);
  expect(text).toContain(GATEWAY);
});

test('the host’s own programs do not get out beside the gateway, whatever they try', async () => {
  await waitUntil('what others asked has ended', async () => (await countConnections()) === 0);
  const script = `exec 3<>/dev/tcp/${rig.outsider.ipv4}/${OUTSIDE_OPEN_PORT} && echo open`;
  const attempt = async (): Promise<string> =>
    (await run(rig.desk.host.in(...asUser(web, 'timeout', '5', 'bash', '-c', script)), { cwd: '/' })).stdout;
  // The rules hold with the agent stopped, too.
  await rig.desk.stop('SIGKILL');
  expect(await attempt()).toBe('');
  expect(await countConnections()).toBe(0);
  await rig.desk.start();
});

describe('a gateway that is not there', () => {
  test('lets nothing out, least of all directly, and takes up its work when it is back', async () => {
    const held = holdOpen();
    await waitUntil('it is open', async () => (await countConnections()) > 0);
    await rig.gate.stop('SIGKILL');
    await waitUntil('what was open has ended', async () => (await countConnections()) === 0, 60_000);
    await held.stop();
    expect((await rig.askTls(web, OUTSIDE.api)).status).toBe(0);
    await rig.recorded({
      server_name: OUTSIDE.api,
      decision: 'deny',
      reason: 'target_unreachable',
      direction: 'outbound',
      via: GATEWAY,
    });
    expect((await rig.ask(web, OUTSIDE.mirror)).status).toBe(502);
    await rig.gate.start({ isGateway: true });
    await waitUntil('requests pass', async () => (await rig.askTls(web, OUTSIDE.api)).status === 200, 60_000);
  });

  test('is not replaced by a host that is registered as one but does not run as one', async () => {
    await rig.gate.stop();
    await rig.gate.start();
    expect((await rig.askTls(web, OUTSIDE.api)).status).toBe(0);
    await rig.recorded({ decision: 'deny', reason: 'listener_not_registered', direction: 'inbound' });
    expect((await rig.gate.examine()).outcomes).toMatchObject({ 'agent gateway': 'warn' });
    await rig.gate.stop();
    await rig.gate.start({ isGateway: true });
    await waitUntil('requests pass', async () => (await rig.askTls(web, OUTSIDE.api)).status === 200, 60_000);
    expect((await rig.gate.examine()).outcomes).toMatchObject({ 'agent gateway': 'ok' });
  });

  test('in quarantine takes nothing out, and what is open ends', async () => {
    const held = holdOpen();
    await waitUntil('it is open', async () => (await countConnections()) > 0);
    await rig.mesh.control.picketOk('quarantine', 'add', GATEWAY, '--reason', 'a test');
    await waitUntil('it is cut', async () => (await countConnections()) === 0, 60_000);
    await held.stop();
    expect((await rig.askTls(web, OUTSIDE.api)).status).toBe(0);
    await rig.recorded({ decision: 'deny', reason: 'quarantined', via: GATEWAY });
    await rig.mesh.control.picketOk('quarantine', 'lift', GATEWAY);
    await waitUntil('requests pass', async () => (await rig.askTls(web, OUTSIDE.api)).status === 200, 60_000);
  });
});

test('every reason has a code of its own', () => {
  const codes = Object.values(DECISION_REASONS).map(({ code }) => code);
  expect(new Set(codes).size).toBe(codes.length);
});

function holdOpen(): Child {
  const address = `${rig.outsider.ipv4}:443`;
  const client = ['openssl', 's_client', '-quiet', '-servername', OUTSIDE.api, '-connect', address];
  return new Child({
    command: rig.desk.host.in(...asUser(web, ...client)),
    logFile: join(rig.folder, 'held.log'),
    cwd: '/',
    isTypedTo: true,
  });
}

/** Connections that the outsider's nginx holds at its TLS ports. */
async function countConnections(): Promise<number> {
  const filter = ['state', 'established', `( sport = :443 or sport = :${OUTSIDE_OPEN_PORT} )`];
  return (await runOk(rig.outsider.in('ss', '-tnH', ...filter))).trim().split('\n').filter(Boolean).length;
}
