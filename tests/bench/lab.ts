import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBpfPlace } from '../kit/bpf-place.ts';
import { Child, run } from '../kit/child.ts';
import { createMesh, type Mesh } from '../kit/mesh.ts';
import type { MeshHost, MeshHostOptions } from '../kit/mesh-host.ts';
import type { TestHost } from '../kit/netns.ts';
import { accountOf, asUser, isListening, startNginx } from '../kit/programs.ts';
import { waitUntil } from '../kit/wait.ts';
import {
  pinTo,
  type Contender,
  type PairMode,
  type PeerContender,
  type Sessions,
} from './contenders/contender.ts';
import { startEnvoy } from './contenders/envoy.ts';
import { startHaproxy } from './contenders/haproxy.ts';
import { startNginxPair } from './contenders/nginx.ts';
import { processTree } from './process-cost.ts';
import { writePeerCertificates, type PeerCertificates } from './contenders/peer-certificates.ts';

/** The user that makes load: the workload /load of the mesh. */
export const LOAD_UID = 7001;
/** The core of load and application where the pair has one of its own. */
export const LOAD_CORE = '0';
export const PAIR_CORE = '1';
export const ALL_CORES = '0,1';

/** Behind every pair the same responses: nginx at a port that is decided per connection and at one decided per request, nghttpd where that is HTTP/2. */
const APPLICATION_PORTS: Readonly<Record<PairMode, number>> = { tcp: 80, http: 81, http2: 8082 };
const LOCATIONS = `
  location = /r { default_type text/plain; return 200 "hello world\\n"; }
  location = /gib { root FOLDER; }
  keepalive_requests 100000000; keepalive_timeout 600;`;
/** More than any table has at once: Envoy puts the streams of all clients on few connections. */
const MAX_STREAMS = '1000';
const POLICY = join(import.meta.dirname, 'policies/bench');
const GIB = 1024 * 1024 * 1024;
const FORWARD_PORTS: Readonly<Record<PairMode, number>> = { tcp: 9080, http: 9081, http2: 9082 };

export const PEERS = ['haproxy', 'nginx', 'envoy'] as const;
export type PeerName = (typeof PEERS)[number];

/** How an agent of the lab differs from a usual one. */
export type PicketVariant = 'pooled' | 'resumed' | 'full' | 'captured' | 'steered' | 'workers';

const VARIANTS: Readonly<Record<PicketVariant, MeshHostOptions['settings']>> = {
  pooled: { capture: { enabled: false } },
  resumed: { capture: { enabled: false }, mesh: { reuse_connections: false } },
  full: { capture: { enabled: false }, mesh: { reuse_connections: false, resume_sessions: false } },
  captured: {},
  steered: {},
  workers: { capture: { enabled: false }, proxy: { workers: 2 } },
};

/** Those that no forward leads to: what the load calls is captured by nftables, or steered by eBPF programs. */
const CAPTURED: Readonly<Partial<Record<PicketVariant, string>>> = {
  captured: 'picket, captured',
  steered: 'picket, eBPF',
};

/** A called side of its own, beside that of the captured and that of the others. */
const CALLED_KINDS: Readonly<Partial<Record<PicketVariant, string>>> = {
  captured: 'captured',
  steered: 'captured',
  workers: 'workers',
};

/** What is under test in every table: the hosts, the mesh, the peers, each started when it is first asked for. */
export class Lab {
  readonly mesh: Mesh;
  readonly folder: string;
  readonly #envoy: string;
  readonly #stack: AsyncDisposableStack;
  readonly #certificates: PeerCertificates;
  readonly #started = new Map<string, Promise<unknown>>();
  #freePort = 21_000;
  #freeHost = 1;

  private constructor(
    parts: {
      readonly mesh: Mesh;
      readonly folder: string;
      readonly envoy: string;
      readonly certificates: PeerCertificates;
    },
    stack: AsyncDisposableStack,
  ) {
    this.mesh = parts.mesh;
    this.folder = parts.folder;
    this.#envoy = parts.envoy;
    this.#certificates = parts.certificates;
    this.#stack = stack;
  }

  /** Makes the network and starts the server; `envoy` is Envoy's executable. */
  static async open(envoy: string): Promise<Lab> {
    await using stack = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'picket-bench-'));
    chmodSync(folder, 0o711);
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    const mesh = await createMesh({ folder: join(folder, 'mesh'), trustDomain: 'bench.test', hosts: 15 });
    stack.defer(async () => await mesh.remove());
    const certificates = await writePeerCertificates(folder);
    await placeServer(mesh.control.pid, { cores: LOAD_CORE, priority: LOWEST_PRIORITY });
    const lab = new Lab({ mesh, folder, envoy, certificates }, stack.move());
    await lab.publish();
    return lab;
  }

  /** Puts the policy of the tables in force. */
  async publish(): Promise<void> {
    await this.mesh.control.picketOk('policy', 'publish', POLICY, '-m', 'bench');
  }

  /** From now on the server gives way to nobody: it is a part of what is measured. */
  async measureServer(): Promise<void> {
    await placeServer(this.mesh.control.pid, { cores: ALL_CORES, priority: 0 });
  }

  /** The agent of the host from which the usual pair is called. */
  async callingAgent(): Promise<MeshHost> {
    return await this.#once('caller pooled', async () => await this.#startCaller('pooled'));
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** A host that nobody uses. */
  takeHost(): TestHost {
    const host = this.mesh.network.hosts[this.#freeHost++];
    if (host === undefined) throw new RangeError('The network has too few hosts');
    return host;
  }

  /** Starts an agent on a host, with the settings of all agents here. */
  async joinHost(host: TestHost, name: string): Promise<MeshHost> {
    const agent = await this.mesh.joinHost(host, name, AGENT_SETTINGS);
    this.#endInPeace(agent);
    return agent;
  }

  /** Picket's pair, kept to some cores. */
  async picket(variant: PicketVariant, mode: PairMode, cores: string): Promise<Contender> {
    const called = await this.#calledBy(variant);
    const caller = await this.#once(`caller ${variant}`, () => this.#startCaller(variant));
    const pids = (): readonly number[] => [called, caller].flatMap(({ pid }) => processTree(pid));
    await pinTo(cores, pids());
    const name = variant === 'workers' ? 'picket, two workers' : (CAPTURED[variant] ?? 'picket');
    const entry =
      variant in CAPTURED
        ? `${called.host.ipv4}:${APPLICATION_PORTS[mode]}`
        : `127.0.0.1:${FORWARD_PORTS[mode]}`;
    const pair = { name, caller: caller.host, entry, pids };
    await waitUntil(`${name} carries a request`, async () => await answers(pair, mode), 30_000);
    return pair;
  }

  /** A peer's pair, kept to some cores, with as many threads. */
  async peer(
    peer: PeerName,
    options: { readonly mode: PairMode; readonly sessions: Sessions; readonly cores: string },
  ): Promise<Contender> {
    const { mode, sessions, cores } = options;
    const threads = cores.split(',').length;
    const pair = await this.#once(
      `${peer} ${mode} ${sessions} ${threads}`,
      async () => await this.#startPeer(peer, { mode, sessions, threads }),
    );
    await pinTo(cores, pair.pids());
    return pair;
  }

  /** The application itself, asked from another host. */
  async direct(): Promise<Contender> {
    const { caller, called } = await this.#peerHosts();
    return { name: 'direct', caller, entry: `${called.ipv4}:${APPLICATION_PORTS.tcp}`, pids: () => [] };
  }

  async #startPeer(
    peer: PeerName,
    options: { readonly mode: PairMode; readonly sessions: Sessions; readonly threads: number },
  ): Promise<Contender> {
    const { caller, called } = await this.#peerHosts();
    const ports = { entry: this.#freePort++, tls: this.#freePort++ };
    const application = APPLICATION_PORTS[options.mode];
    const certificates = this.#certificates;
    const pair = { ...options, caller, called, ports, application, certificates, folder: this.folder };
    const started = await startPeerPair(peer, pair, this.#envoy);
    this.#stack.defer(started.stop);
    return started;
  }

  async #peerHosts(): Promise<{ readonly caller: TestHost; readonly called: TestHost }> {
    return await this.#once('peer hosts', async () => {
      const called = this.takeHost();
      await this.#startApplication(called);
      return { caller: this.takeHost(), called };
    });
  }

  async #startCalled(variant: PicketVariant): Promise<MeshHost> {
    const host = this.takeHost();
    await this.#startApplication(host);
    const ofKind = variant === 'workers' ? VARIANTS.workers : VARIANTS.pooled;
    const settings = { ...AGENT_SETTINGS, ...(variant in CAPTURED ? {} : ofKind) };
    const agent = await this.mesh.joinHost(host, `called-${host.name}`, settings);
    const { tcp, http, http2 } = APPLICATION_PORTS;
    const listen = [`${tcp}/tcp`, `${http}/http`, `${http2}/http`];
    this.#endInPeace(agent);
    await this.mesh.register({ path: '/application', on: agent, selectors: ['unix:user:www-data'], listen });
    return agent;
  }

  /** Programs steer what is in a cgroup of its own. */
  async #prepareCaller(
    variant: PicketVariant,
  ): Promise<{ readonly host: TestHost; readonly settings: MeshHostOptions['settings'] & object }> {
    const host = this.takeHost();
    if (variant !== 'steered') return { host, settings: {} };
    const place = await createBpfPlace(host);
    this.#stack.defer(async () => await place.remove());
    return { host: place.host, settings: { capture: place.settings } };
  }

  /** What is captured on one side is captured on the other. */
  async #calledBy(variant: PicketVariant): Promise<MeshHost> {
    const kind = CALLED_KINDS[variant] ?? 'usual';
    return await this.#once(`called ${kind}`, async () => await this.#startCalled(variant));
  }

  async #startCaller(variant: PicketVariant): Promise<MeshHost> {
    const called = await this.#calledBy(variant);
    const { host, settings: capture } = await this.#prepareCaller(variant);
    const forwards = (['tcp', 'http', 'http2'] as const).map((mode) => ({
      listen: `127.0.0.1:${FORWARD_PORTS[mode]}`,
      to: `${called.host.ipv4}:${APPLICATION_PORTS[mode]}`,
    }));
    const settings = {
      ...AGENT_SETTINGS,
      ...VARIANTS[variant],
      ...(variant in CAPTURED ? {} : { forwards }),
      ...capture,
    };
    const agent = await this.mesh.joinHost(host, `caller-${variant}`, settings);
    this.#endInPeace(agent);
    await this.mesh.register({ path: '/load', on: agent, selectors: [`unix:uid:${LOAD_UID}`] });
    return agent;
  }

  /** An agent that is killed leaves no profile. */
  #endInPeace(agent: MeshHost): void {
    this.#stack.defer(async () => void (await agent.stop()));
  }

  async #startApplication(host: TestHost): Promise<void> {
    const folder = join(this.folder, `application-${host.name}`);
    mkdirSync(folder, { recursive: true });
    const file = join(folder, 'gib');
    await Bun.write(file, '');
    await host.runOk('truncate', '-s', String(GIB), file);
    chownSync(file, 33, 33);
    const nginx = await startNginx(host, {
      folder,
      locations: LOCATIONS.replaceAll('FOLDER', folder),
      listen: [APPLICATION_PORTS.tcp, APPLICATION_PORTS.http].map((port) => `${port} backlog=4096`),
      accessLog: false,
      connections: 9000,
    });
    this.#stack.defer(async () => void (await nginx.stop()));
    const { uid } = accountOf('www-data');
    await Bun.write(join(folder, 'r'), 'hello world\n');
    const nghttpd = new Child({
      command: host.in(
        ...asUser(
          uid,
          'nghttpd',
          '--no-tls',
          '-m',
          MAX_STREAMS,
          '-d',
          folder,
          String(APPLICATION_PORTS.http2),
        ),
      ),
      logFile: join(folder, 'nghttpd.log'),
      cwd: '/',
    });
    this.#stack.defer(async () => void (await nghttpd.stop()));
    await nghttpd.ready('nghttpd listens', async () => await isListening(host, APPLICATION_PORTS.http2));
    await pinTo(LOAD_CORE, [...processTree(nginx.pid), ...processTree(nghttpd.pid)]);
  }

  async #once<T>(key: string, start: () => Promise<T>): Promise<T> {
    const started = this.#started.get(key) ?? start();
    this.#started.set(key, started);
    return (await started) as T;
  }
}

/** In a real mesh the server is on another machine: what it does with the records must not be measured here. */
async function placeServer(
  pid: number,
  place: { readonly cores: string; readonly priority: number },
): Promise<void> {
  await pinTo(place.cores, [pid]);
  for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), place.priority);
}

const LOWEST_PRIORITY = 19;

/** A long run must not fill the spool, and what is logged must not be what is measured. */
const AGENT_SETTINGS = { log_level: 'warn', audit: { max_bytes: 16 * GIB }, limits: { connections: 20_000 } };

async function startPeerPair(
  peer: PeerName,
  pair: Parameters<typeof startHaproxy>[0],
  envoy: string,
): Promise<PeerContender> {
  switch (peer) {
    case 'haproxy':
      return await startHaproxy(pair);
    case 'nginx':
      return await startNginxPair(pair);
    case 'envoy':
      return await startEnvoy(pair, envoy);
  }
}

async function answers({ caller, entry }: Contender, mode: PairMode): Promise<boolean> {
  const version = mode === 'http2' ? ['--http2-prior-knowledge'] : [];
  const command = asUser(
    LOAD_UID,
    'curl',
    '-sf',
    ...version,
    '-m',
    '5',
    '-o',
    '/dev/null',
    `http://${entry}/r`,
  );
  return (await run(caller.in(...command), { cwd: '/' })).exitCode === 0;
}
