import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { accessPage } from '../../shared/protocol/operator.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { prepareCapture, type CapturedHostOptions } from './captured-host.ts';
import { DnsServer } from './dns.ts';
import { makeInspectionAuthority, type InspectionAuthorityFiles } from './inspection-authority.ts';
import { createMesh, type Mesh } from './mesh.ts';
import type { MeshHost } from './mesh-host.ts';
import type { TestHost } from './netns.ts';
import { makeOutsideCertificate, type OutsideCertificate } from './outside-certificate.ts';
import { OutsideServer } from './outside-server.ts';
import { picketBinary } from './picket-binary.ts';
import { curl, type CurlAnswer } from './programs.ts';
import { SshServer } from './ssh.ts';
import { waitUntil } from './wait.ts';

/** Users on the host `desk`: a number is a user. */
export const GATEWAY_USERS = { web: 7001, reports: 7002, prober: 7003, nobody: 7004 } as const;

/** What the process of a gateway is registered by. */
export const GATEWAY_SELECTORS: readonly string[] = ['unix:uid:0', `unix:path:${picketBinary()}`];

export const GATEWAY = parseSpiffeId('spiffe://example.org/gateway');

/** Names that lead to the outsider. */
export const OUTSIDE = {
  api: 'api.partner.test',
  pinned: 'pinned.partner.test',
  wrong: 'wrong.partner.test',
  vouched: 'vouched.partner.test',
  mirror: 'mirror.partner.test',
  direct: 'direct.partner.test',
  opened: 'opened.partner.test',
} as const;

/** An address to which the gateway may go, and to which no name leads. */
export const NAMELESS_ADDRESS = '10.9.0.250';

export const OUTSIDE_SSH_PORT = 2222;
/** TLS to which the outsider lets everybody. */
export const OUTSIDE_OPEN_PORT = 8443;
const DNS_PORT = 53;

/** A host that is the gateway, and the entry by which it is. */
export interface GatewayHost {
  readonly agent: MeshHost;
  readonly entryId: string;
}

/** `settings` and `backend` are those of all agents. */
export interface GatewayMeshOptions extends CapturedHostOptions {
  /** Whether a second host is the same gateway. */
  readonly hasSpare?: boolean;
  /** Whether all hosts have an authority to inspect TLS with. */
  readonly inspects?: boolean;
}

/**
 * A mesh whose host `desk` has programs and whose host `gate` is a gateway out of it, `spare` perhaps a second one. The outsider takes connections to its usual ports from the gateways' addresses
 * alone, as a network does where only the gateways' hosts may go out.
 */
export class GatewayMesh {
  readonly folder: string;
  readonly mesh: Mesh;
  readonly desk: MeshHost;
  readonly gate: MeshHost;
  /** The hosts that are the gateway, with the entry that makes each one: `gate`, and `spare` where that was asked for. */
  readonly gateways: readonly GatewayHost[];
  readonly outsider: TestHost;
  readonly server: OutsideServer;
  /** The outsider's own, the next one of the same authority, and one that nobody vouches for. */
  readonly certificates: Readonly<Record<'partner' | 'next' | 'stranger', OutsideCertificate>>;
  /** By which both hosts inspect TLS, where they do. */
  readonly inspection: InspectionAuthorityFiles;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<
      GatewayMesh,
      'folder' | 'mesh' | 'desk' | 'gate' | 'gateways' | 'outsider' | 'server' | 'certificates' | 'inspection'
    >,
    stack: AsyncDisposableStack,
  ) {
    this.folder = parts.folder;
    this.mesh = parts.mesh;
    this.desk = parts.desk;
    this.gate = parts.gate;
    this.gateways = parts.gateways;
    this.outsider = parts.outsider;
    this.server = parts.server;
    this.certificates = parts.certificates;
    this.inspection = parts.inspection;
    this.#stack = stack;
  }

  /** Starts everything and waits until a request passes the gateway. */
  static async open(options: GatewayMeshOptions = {}): Promise<GatewayMesh> {
    await using stack = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'picket-gateway-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    // Other users have their own folders in it.
    chmodSync(folder, 0o711);
    const mesh = await createMesh({ folder: join(folder, 'mesh'), trustDomain: 'example.org', hosts: 5 });
    stack.defer(async () => await mesh.remove());
    const [, deskHost, gateHost, outsider, spareHost] = mesh.network.hosts;
    if (deskHost === undefined || gateHost === undefined || outsider === undefined || spareHost === undefined)
      throw new Error('The network has too few hosts');
    const authority = await makeOutsideCertificate(join(folder, 'authority'), {
      names: ['authority.partner.test'],
    });
    const certificates = await makeCertificates(folder, authority);
    const server = new OutsideServer(outsider, join(folder, 'nginx'));
    await server.present(certificates.partner);
    stack.defer(async () => await server.stop());
    await startOthers(outsider, folder, stack);
    const gatewayHosts = options.hasSpare === true ? [gateHost, spareHost] : [gateHost];
    await letInOnly(outsider, gatewayHosts);
    const inspection = await makeInspectionAuthority(join(folder, 'inspection'));
    const settings = {
      ...options.settings,
      ...settingsOf(outsider, authority, options.inspects === true ? inspection : undefined),
    };
    const prepare = async (host: TestHost, name: string, more = {}): Promise<MeshHost> => {
      const captured = await prepareCapture(host, { ...options, settings: { ...settings, ...more } }, stack);
      return await mesh.prepareJoin(captured.host, name, captured.settings);
    };
    // Where it inspects, workers do so on one host and the agent itself on the other.
    const desk = await prepare(deskHost, 'desk', options.inspects === true ? { proxy: { workers: 2 } } : {});
    await desk.start();
    await registerPrograms(mesh, desk);
    const gateways: GatewayHost[] = [];
    for (const [i, host] of gatewayHosts.entries()) {
      const agent = await prepare(host, i === 0 ? 'gate' : 'spare');
      await agent.start({ isGateway: true });
      gateways.push({ agent, entryId: await registerGateway(mesh, agent) });
    }
    const [first] = gateways;
    if (first === undefined) throw new Error('There is no gateway');
    const { agent: gate } = first;
    const parts = { folder, mesh, desk, gate, gateways, outsider, server, certificates, inspection };
    await new GatewayMesh(parts, stack).#waitUntilOpen();
    return new GatewayMesh(parts, stack.move());
  }

  /** An HTTPS request of a user on `desk` for a name, at the outsider whatever the name says. */
  async askTls(uid: number, name: string, port = 443): Promise<CurlAnswer> {
    const args = ['-k', '--resolve', `${name}:${port}:${this.outsider.ipv4}`, `https://${name}:${port}/`];
    return await curl(this.desk.host, { uid, args });
  }

  /** A plain HTTP request, as `askTls`. */
  async ask(uid: number, name: string, ...more: readonly string[]): Promise<CurlAnswer> {
    const args = ['--resolve', `${name}:80:${this.outsider.ipv4}`, `http://${name}/`, ...more];
    return await curl(this.desk.host, { uid, args });
  }

  /** The newest record that has all of these fields, once there is one. */
  async recorded(fields: Partial<AccessRecord>): Promise<AccessRecord> {
    return await waitUntil(
      `${JSON.stringify(fields)} stands in the record`,
      async () => await this.findRecord(fields),
    );
  }

  /** As `recorded`, as it is now. */
  async findRecord(fields: Partial<AccessRecord>): Promise<AccessRecord | undefined> {
    const has = (record: AccessRecord): boolean =>
      Object.entries(fields).every(([name, value]) => record[name as keyof AccessRecord] === value);
    const page = await this.mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '200');
    return page.items.find(has);
  }

  /** Puts a policy in force on all hosts. */
  async publish(policy: string): Promise<void> {
    const path = join(this.folder, 'policy');
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'mesh.rego'), policy);
    await this.mesh.control.picketOk('policy', 'publish', path, '-m', 'what leaves');
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #waitUntilOpen(): Promise<void> {
    const { partner, next, stranger } = this.certificates;
    await this.publish(policyOf({ pins: [partner.pin, next.pin], wrongPin: stranger.pin }));
    await waitUntil(
      'requests pass the gateway',
      async () => (await this.askTls(GATEWAY_USERS.web, OUTSIDE.api)).status === 200,
      60_000,
    );
  }
}

/** What may leave, and on what terms. */
function policyOf({
  pins,
  wrongPin,
}: {
  readonly pins: readonly string[];
  readonly wrongPin: string;
}): string {
  const { api, pinned, wrong, vouched, mirror, direct, opened } = OUTSIDE;
  return `package picket.authz

default allow := false

default egress := false

gateway := "${GATEWAY}"

# Within the mesh the called side decides.
egress if input.target.spiffe_id != ""

egress := {"allowed": true, "via": gateway} if {
	input.caller.path == "/web"
	input.target.domain == "${api}"
	input.request.protocol == "tls"
}

egress := {"allowed": true, "via": gateway, "server_certificate": {"spki_sha256": ${JSON.stringify(pins)}}} if {
	input.caller.path == "/web"
	input.target.domain == "${pinned}"
}

egress := {"allowed": true, "via": gateway, "server_certificate": {"spki_sha256": ["${wrongPin}"]}} if {
	input.caller.path == "/web"
	input.target.domain == "${wrong}"
}

egress := {"allowed": true, "via": gateway, "server_certificate": {"authority": "partner"}} if {
	input.caller.path == "/web"
	input.target.domain == "${vouched}"
}

egress := {"allowed": true, "server_certificate": {"spki_sha256": ${JSON.stringify(pins)}, "authority": "partner"}} if {
	input.caller.path == "/web"
	input.target.domain == "${direct}"
}

egress := {"allowed": true, "inspect": true} if {
	input.caller.path == "/web"
	input.target.domain == "${opened}"
}

egress := {"allowed": true, "via": gateway} if {
	input.caller.path == "/web"
	input.target.domain == "${mirror}"
	input.request.method == "GET"
}

egress := {"allowed": true, "via": gateway} if {
	input.caller.path == "/reports"
	input.target.spiffe_id == ""
	input.target.port == ${OUTSIDE_SSH_PORT}
}

# Everywhere: what a gateway refuses all the same.
egress := {"allowed": true, "via": gateway} if {
	input.caller.path == "/prober"
	input.target.spiffe_id == ""
}
`;
}

async function makeCertificates(
  folder: string,
  authority: OutsideCertificate,
): Promise<GatewayMesh['certificates']> {
  const names = Object.values(OUTSIDE);
  return {
    partner: await makeOutsideCertificate(join(folder, 'partner'), { names, issuer: authority }),
    next: await makeOutsideCertificate(join(folder, 'next'), { names, issuer: authority }),
    stranger: await makeOutsideCertificate(join(folder, 'stranger'), { names }),
  };
}

async function startOthers(outsider: TestHost, folder: string, stack: AsyncDisposableStack): Promise<void> {
  const sshd = await SshServer.start(outsider, { folder: join(folder, 'ssh'), port: OUTSIDE_SSH_PORT });
  stack.defer(async () => await sshd.stop());
  const addresses = [outsider.ipv4, outsider.ipv6];
  const dns = await DnsServer.start({
    folder,
    address: outsider.ipv4,
    port: DNS_PORT,
    records: Object.fromEntries(Object.values(OUTSIDE).map((name) => [name, addresses])),
    within: (...command) => outsider.in(...command),
  });
  stack.defer(async () => await dns.stop());
}

/** The outsider's rules: its ports are open to the gateways' hosts alone. */
async function letInOnly(outsider: TestHost, gatewayHosts: readonly TestHost[]): Promise<void> {
  const [ipv4, ipv6] = [gatewayHosts.map((host) => host.ipv4), gatewayHosts.map((host) => host.ipv6)];
  const ports = `{ 80, 443, ${OUTSIDE_SSH_PORT} }`;
  const rules = [
    'add table inet edge',
    'add chain inet edge input { type filter hook input priority 0; policy accept; }',
    `add rule inet edge input ip saddr != { ${ipv4.join(', ')} } tcp dport ${ports} drop`,
    `add rule inet edge input ip6 saddr != { ${ipv6.join(', ')} } tcp dport ${ports} drop`,
  ];
  for (const rule of rules) await outsider.runOk('nft', ...rule.split(' '));
}

function settingsOf(
  outsider: TestHost,
  authority: OutsideCertificate,
  inspection: InspectionAuthorityFiles | undefined,
): Readonly<Record<string, unknown>> {
  return {
    capture: { allow_udp: [{ address: outsider.ipv4, port: DNS_PORT }] },
    egress: {
      resolvers: [`${outsider.ipv4}:${DNS_PORT}`],
      authorities: { partner: authority.certificate },
      ...(inspection === undefined
        ? {}
        : {
            inspection: {
              certificate_file: inspection.certificate,
              key_file: inspection.key,
              server_authorities_file: authority.certificate,
            },
          }),
      // The outsider stands in a private network, as all hosts of the tests do.
      gateway_allows: [outsider.ipv4, NAMELESS_ADDRESS],
    },
  };
}

async function registerPrograms(mesh: Mesh, desk: MeshHost): Promise<void> {
  const { web, reports, prober } = GATEWAY_USERS;
  await mesh.register({ path: '/web', on: desk, selectors: [`unix:uid:${web}`] });
  await mesh.register({ path: '/reports', on: desk, selectors: [`unix:uid:${reports}`] });
  await mesh.register({ path: '/prober', on: desk, selectors: [`unix:uid:${prober}`] });
}

/** The entry's id. */
async function registerGateway(mesh: Mesh, on: MeshHost): Promise<string> {
  return await mesh.register({
    path: '/gateway',
    on,
    selectors: GATEWAY_SELECTORS,
    listen: ['15008/egress'],
  });
}
