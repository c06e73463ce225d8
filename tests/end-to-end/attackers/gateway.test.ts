import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { DECISION_REASONS, type DecisionReason } from '../../../shared/policy/decision.ts';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { writeDataHeader } from '../../../shared/wire/tunnel-frame.ts';
import { run } from '../../kit/child.ts';
import {
  GATEWAY,
  GATEWAY_USERS,
  GatewayMesh,
  NAMELESS_ADDRESS,
  OUTSIDE,
  OUTSIDE_SSH_PORT,
} from '../../kit/gateway-mesh.ts';
import { asUser } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import type { TestCertificate } from '../../kit/test-authority.ts';
import {
  issueLeaf,
  opening,
  signIntermediate,
  tryMesh,
  type MeshAnswer,
  type MeshAttempt,
} from './mesh-client.ts';

/** Who has a workload's certificate and key, and speaks to a gateway from wherever he likes: he gets what that workload gets, and nothing that the gateway alone could reach. */

setDefaultTimeout(90_000);

const SERVER_NAME = spiffeServerName(GATEWAY);
const WEB = 'spiffe://example.org/web';
const REPORTS = 'spiffe://example.org/reports';
/** The policy lets it go everywhere by the gateway. */
const PROBER = 'spiffe://example.org/prober';

let rig: GatewayMesh;
let intermediate: TestCertificate;

beforeAll(async () => {
  rig = await GatewayMesh.open();
  intermediate = await signIntermediate(rig.mesh.control);
}, 240_000);
afterAll(async () => await rig?.close());

/** What the gateway answers to the outsider, who shows a certificate of `spiffeId`. IPv6 as its 32 hexadecimal digits. */
async function bring(
  spiffeId: string,
  to: { readonly address: string; readonly port: number },
  change: Pick<Partial<MeshAttempt>, 'serverName' | 'request' | 'seconds'> = {},
): Promise<MeshAnswer> {
  return await tryMesh({
    from: rig.outsider,
    to: rig.gate.host,
    serverName: SERVER_NAME,
    credentials: { chain: [await issueLeaf(intermediate, spiffeId), intermediate] },
    send: opening(to.address, to.port),
    seconds: 20,
    ...change,
  });
}

function expectDenied({ frames }: MeshAnswer, reason: DecisionReason): void {
  expect(frames.map(({ type }) => type)).toEqual(['deny']);
  expect(frames[0]).toMatchObject({ reasonCode: DECISION_REASONS[reason].code });
}

describe('a stolen certificate', () => {
  test('gets what its workload gets, and is recorded with the address that it came from', async () => {
    const ssh = { address: rig.outsider.ipv4, port: OUTSIDE_SSH_PORT };
    const taken = await bring(REPORTS, ssh, { seconds: 5 });
    expect(taken.frames[0]).toEqual({ type: 'accept' });
    expect(taken.data).toStartWith('SSH-2.0');
    const record = await rig.recorded({
      caller_spiffe_id: parseSpiffeId(REPORTS),
      direction: 'inbound',
      decision: 'allow',
    });
    expect(record.source).toStartWith(`${rig.outsider.ipv4}:`);
  });

  test('gets nothing else: not by address, and not by a name that it says and does not lead there', async () => {
    // It might still have said a name.
    const silent = await bring(REPORTS, { address: rig.outsider.ipv4, port: 23 });
    expect(silent.frames).toMatchObject([
      { type: 'accept' },
      { type: 'reset', reasonCode: DECISION_REASONS.egress_deny.code },
    ]);
    // The gateway listens to what it says; what it says is a request for a name of its choice.
    const request = Buffer.from(`\0\0\0\0GET / HTTP/1.1\r\nHost: ${OUTSIDE.mirror}\r\n\r\n`, 'latin1');
    writeDataHeader(request, 0, request.length - 4);
    const { data } = await bring(WEB, { address: NAMELESS_ADDRESS, port: 80 }, { request, seconds: 5 });
    expect(data).toContain('domain_unverified');
  });

  test('of nobody that the mesh knows is not even looked at', async () => {
    const stranger = await bring('spiffe://elsewhere.org/web', { address: rig.outsider.ipv4, port: 443 });
    expect(stranger.frames[0]).toMatchObject({
      type: 'reset',
      reasonCode: DECISION_REASONS.caller_untrusted.code,
    });
    const agent = await bring('spiffe://example.org/picket/agent/join_token/desk', {
      address: rig.outsider.ipv4,
      port: 443,
    });
    expect(agent.frames[0]).toMatchObject({
      type: 'reset',
      reasonCode: DECISION_REASONS.caller_untrusted.code,
    });
  });

  test('of a workload in quarantine gets nothing', async () => {
    const { control } = rig.mesh;
    await control.picketOk('quarantine', 'add', REPORTS, '--reason', 'its key was stolen');
    const ssh = { address: rig.outsider.ipv4, port: OUTSIDE_SSH_PORT };
    await waitUntil('the gateway knows', async () => (await bring(REPORTS, ssh)).frames[0]?.type === 'deny');
    expectDenied(await bring(REPORTS, ssh), 'quarantined');
    await control.picketOk('quarantine', 'lift', REPORTS);
  });
});

describe('the gateway takes nobody, whatever the policy lets him,', () => {
  const refused = [
    ['to itself by loopback', '127.0.0.1', 15_020],
    ['to itself by another spelling of loopback', '00000000000000000000ffff7f000001', 15_020],
    ['to itself by IPv6 loopback', '00000000000000000000000000000001', 15_020],
    ['to the unspecified address', '0.0.0.0', 15_020],
    ['to itself by its own address', '10.9.0.3', 22],
    ['to its own mesh port', '10.9.0.3', 15_008],
    ['to its own IPv6 address', 'fd090000000000000000000000000003', 22],
    ['to what a cloud says to its hosts', '169.254.169.254', 80],
    ['to its link', 'fe800000000000000000000000000001', 80],
    ['to many at once', '224.0.0.1', 80],
    ['to a server of the mesh', '10.9.0.1', 8443],
    ['to loopback by a translator', '0064ff9b00000000000000007f000001', 80],
    ['to what a cloud says by 6to4', '2002a9fea9fe00000000000000000001', 80],
  ] as const;
  for (const [what, address, port] of refused)
    test(what, async () => expectDenied(await bring(PROBER, { address, port }), 'egress_deny'));

  test('into the mesh', async () => {
    const listen = { path: '/desk-service', on: rig.desk, selectors: ['unix:uid:7009'], listen: ['8080'] };
    await rig.mesh.register(listen);
    const isRefused = async (): Promise<boolean> => {
      const [first] = (await bring(PROBER, { address: rig.desk.host.ipv4, port: 23 })).frames;
      return first?.type === 'deny' && first.reasonCode === DECISION_REASONS.egress_deny.code;
    };
    await waitUntil('the address is the mesh’s', isRefused);
    expectDenied(await bring(PROBER, { address: rig.desk.host.ipv4, port: 8080 }), 'egress_deny');
  });
});

test('another identity of the gateway’s host is no gateway', async () => {
  await rig.mesh.register({
    path: '/neighbour',
    on: rig.gate,
    selectors: ['unix:uid:7010'],
    listen: ['8081'],
  });
  const serverName = spiffeServerName(parseSpiffeId('spiffe://example.org/neighbour'));
  const ask = async (): Promise<MeshAnswer> =>
    await bring(PROBER, { address: rig.outsider.ipv4, port: 443 }, { serverName });
  // Before the host has its certificate the name is unknown.
  const answer = await waitUntil('the host has the identity', async () => {
    const asked = await ask();
    return asked.frames.length > 0 && asked;
  });
  expectDenied(answer, 'listener_not_registered');
});

test('a host that makes itself a gateway is asked by nobody', async () => {
  // The desk runs as one, with the certificate that a thief made for it, and no entry names it: its own programs still go by the registered one.
  await rig.desk.stop();
  await rig.desk.start({ isGateway: true });
  const { web } = GATEWAY_USERS;
  expect((await rig.askTls(web, OUTSIDE.api)).body).toContain(`from=${rig.gate.host.ipv4}`);
  expect((await rig.desk.examine()).outcomes).toMatchObject({ 'agent gateway': 'warn' });
  // Whoever connects to the gateway's port himself speaks to nobody.
  const script = `exec 3<>/dev/tcp/${rig.gate.host.ipv4}/15008 && read -r -t 5 line <&3; echo "$line"`;
  await run(rig.desk.host.in(...asUser(GATEWAY_USERS.prober, 'bash', '-c', script)), { cwd: '/' });
  await rig.recorded({ destination: `${rig.gate.host.ipv4}:15008`, reason: 'target_unknown' });
});
