import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child, run, type RunResult } from '../../kit/child.ts';
import { createMesh, type Mesh, type MeshOptions } from '../../kit/mesh.ts';
import type { MeshHost, MeshHostOptions } from '../../kit/mesh-host.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';

/** Who calls: on `desk`, as /caller, to whom the policy opens every service. */
export const CALLER_USER = 7100;

const POLICY = join(import.meta.dirname, '../../kit/policies/traffic');
const OPEN_MS = 30_000;

/** A service on `store`. */
export interface Service {
  /** Of its SPIFFE ID, with the slash. What is /web may be asked by HTTP alone. */
  readonly path: string;
  readonly selectors: readonly string[];
  /** PORT or PORT/PROTOCOL. */
  readonly listen: readonly string[];
  /** Starts it; it must be stopped by its pid. */
  readonly start: (host: TestHost, folder: string) => Promise<Child>;
}

/** The service that a Python program of `programs/` is. */
export function pythonService(options: {
  readonly path: string;
  readonly uid: number;
  readonly listen: readonly string[];
  readonly program: string;
  readonly args: readonly string[];
}): Service {
  const { path, uid, listen, program, args } = options;
  const start = async (host: TestHost, folder: string): Promise<Child> => {
    const child = new Child({
      command: host.in(...asUser(uid, ...python(program, ...args))),
      logFile: join(folder, `${path.slice(1)}.log`),
      cwd: '/',
    });
    const ports = listen.map((each) => Number.parseInt(each, 10));
    await child.ready(`${path} listens`, async () => {
      const listening = await Promise.all(ports.map(async (port) => await isListening(host, port)));
      return listening.every(Boolean);
    });
    return child;
  };
  return { path, selectors: [`unix:uid:${uid}`], listen, start };
}

export interface TrafficMeshOptions {
  readonly services: readonly Service[];
  /** Whether the services can be reached. */
  readonly isOpen: (mesh: TrafficMesh) => Promise<boolean>;
  /** Hosts of the network beside those of the mesh. */
  readonly moreHosts?: number;
  /** Life of the certificates of caller and services. */
  readonly ttl?: string;
  /** More settings for both agents. */
  readonly settings?: MeshHostOptions['settings'];
  /** More settings for the server. */
  readonly serverSettings?: MeshOptions['serverSettings'];
}

/** Two hosts for traffic of every shape: services on `store`, and /caller on `desk`. The policy of policies/traffic is in force. */
export class TrafficMesh {
  readonly folder: string;
  readonly mesh: Mesh;
  readonly store: MeshHost;
  readonly desk: MeshHost;
  readonly #stack: AsyncDisposableStack;
  readonly #services = new Map<string, Child>();

  private constructor(
    parts: Pick<TrafficMesh, 'folder' | 'mesh' | 'store' | 'desk'>,
    stack: AsyncDisposableStack,
  ) {
    this.folder = parts.folder;
    this.mesh = parts.mesh;
    this.store = parts.store;
    this.desk = parts.desk;
    this.#stack = stack;
  }

  /** Starts everything and waits until the services can be reached. */
  static async open({
    services,
    isOpen,
    moreHosts = 0,
    ttl,
    settings,
    serverSettings = {},
  }: TrafficMeshOptions): Promise<TrafficMesh> {
    await using stack = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'picket-traffic-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    // Other users have their own folders in it.
    chmodSync(folder, 0o711);
    const hosts = 3 + moreHosts;
    const mesh = await createMesh({
      folder: join(folder, 'mesh'),
      trustDomain: 'example.org',
      hosts,
      serverSettings,
    });
    stack.defer(async () => await mesh.remove());
    const [, storeHost, deskHost] = mesh.network.hosts;
    if (storeHost === undefined || deskHost === undefined) throw new Error('The network has too few hosts');
    const store = await mesh.joinHost(storeHost, 'store', settings);
    const desk = await mesh.joinHost(deskHost, 'desk', settings);
    await mesh.register({
      path: '/caller',
      on: desk,
      selectors: [`unix:uid:${CALLER_USER}`],
      ...withTtl(ttl),
    });
    const open = new TrafficMesh({ folder, mesh, store, desk }, stack.move());
    try {
      for (const service of services) await open.#start(service, ttl);
      await mesh.control.picketOk('policy', 'publish', POLICY, '-m', 'traffic');
      await waitUntil('the services are reached', async () => await isOpen(open), OPEN_MS);
    } catch (error) {
      await open.close();
      throw error;
    }
    return open;
  }

  /** The process of a service. */
  service(path: string): Child {
    const child = this.#services.get(path);
    if (child === undefined) throw new Error(`There is no service ${path}`);
    return child;
  }

  /** Runs a program on `desk` as /caller, or as another user. */
  async asCaller(
    command: readonly string[],
    { uid = CALLER_USER, withinMs = 60_000 }: { readonly uid?: number; readonly withinMs?: number } = {},
  ): Promise<RunResult> {
    return await run(this.desk.host.in(...asUser(uid, ...command)), { cwd: '/', withinMs });
  }

  /** Starts a program as /caller that goes on beside the test; it is ended with the mesh at the latest. */
  startCaller(name: string, command: readonly string[]): Child {
    const child = new Child({
      command: this.desk.host.in(...asUser(CALLER_USER, ...command)),
      logFile: join(this.folder, `${name}.log`),
      cwd: '/',
    });
    this.#stack.defer(async () => void (await child.stop('SIGKILL')));
    return child;
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #start(service: Service, ttl: string | undefined): Promise<void> {
    const { path, selectors, listen, start } = service;
    const child = await start(this.store.host, this.folder);
    // Not by SIGKILL: nginx would leave its workers behind.
    this.#stack.defer(async () => void (await child.stop()));
    this.#services.set(path, child);
    await this.mesh.register({ path, on: this.store, selectors, listen, ...withTtl(ttl) });
  }
}

function withTtl(ttl: string | undefined): { readonly ttl?: string } {
  return ttl === undefined ? {} : { ttl };
}

/** The command that runs a Python program of `programs/`. Users of a test need not be able to read the project: the program goes by argument. */
export function python(program: string, ...args: readonly string[]): readonly string[] {
  const text = readFileSync(join(import.meta.dirname, 'programs', program), 'utf8');
  return ['/usr/bin/python3', '-c', text, ...args];
}
