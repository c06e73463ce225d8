import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Child } from './child.ts';
import type { ControlPlane } from './control-plane.ts';
import { createMesh, type Mesh, type WorkloadOptions } from './mesh.ts';
import type { MeshHost, MeshHostOptions } from './mesh-host.ts';
import type { TestHost } from './netns.ts';
import { routeToPods, type PodNetwork, type TestPod } from './pods.ts';
import { curl, startNginx, type CurlAnswer, type NginxOptions } from './programs.ts';
import { waitUntil } from './wait.ts';

/** Who calls, in pods and on hosts: a number is a user. */
export const POD_USER = 7001;

/** All addresses of `PodsMesh.network`, as the setting `addresses_in` has them. */
export const POD_ADDRESSES: readonly string[] = ['10.8.1.0/24', 'fd08:1::/64'];

const USER_SELECTOR = `unix:uid:${POD_USER}`;
const NGINX_SELECTOR = 'unix:user:www-data';

type PodWorkload = Omit<WorkloadOptions, 'on'>;

/** `/front`, which calls: the user in the pods of a label. */
export function frontIn(label: string): PodWorkload {
  return { path: '/front', selectors: [USER_SELECTOR, `netns:name:${label}`] };
}

/** `/back`, which is called: the nginx of a pod at both of its addresses, by the label of the pod. */
export function backIn(label: string, { ipv4, ipv6 }: Pick<TestPod, 'ipv4' | 'ipv6'>): PodWorkload {
  return {
    path: '/back',
    selectors: [NGINX_SELECTOR, `netns:name:${label}`],
    listen: [`80/auto@${ipv4}`, `80/auto@${ipv6}`],
  };
}

/** The nginx of a host itself; at port 80 of everything, unless it is said where. */
export function nginxOf(path: string, listen: readonly string[] = ['80']): PodWorkload {
  return { path, selectors: [NGINX_SELECTOR], listen };
}

/** The user on a host itself. */
export const REMOTE: PodWorkload = { path: '/remote', selectors: [USER_SELECTOR] };

/** How an agent is set up on the host of the pods. */
export interface JoinedDesk {
  /** `PodsMesh.deskHost`, or the same as its agent captures it. */
  readonly host: TestHost;
  readonly settings: MeshHostOptions['settings'] & object;
  readonly workloads: readonly PodWorkload[];
}

/**
 * A mesh whose host `desk` has pods behind it. On `store` are an nginx, `/invoices`, and the user as `/remote`. The agents come with `join`, so that a test can make pods that are there before. The policy
 * lets `/front` and `/remote` read from `/back`, and `/front` from `/invoices`.
 */
export class PodsMesh {
  readonly folder: string;
  readonly mesh: Mesh;
  readonly network: PodNetwork;
  readonly storeHost: TestHost;
  /** A host without an agent, which knows the way to the pods. */
  readonly outsider: TestHost;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<PodsMesh, 'folder' | 'mesh' | 'network' | 'storeHost' | 'outsider'>,
    stack: AsyncDisposableStack,
  ) {
    this.folder = parts.folder;
    this.mesh = parts.mesh;
    this.network = parts.network;
    this.storeHost = parts.storeHost;
    this.outsider = parts.outsider;
    this.#stack = stack;
  }

  /** Starts the network and the server, and no agent. */
  static async open(): Promise<PodsMesh> {
    await using stack = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'picket-pods-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    // Other users have their own folders in it.
    chmodSync(folder, 0o711);
    const mesh = await createMesh({ folder: join(folder, 'mesh'), trustDomain: 'example.org', hosts: 4 });
    stack.defer(async () => await mesh.remove());
    const [, deskHost, storeHost, outsider] = mesh.network.hosts;
    if (deskHost === undefined || storeHost === undefined || outsider === undefined)
      throw new Error('The network has too few hosts');
    const network = { number: 1, host: deskHost };
    for (const host of [storeHost, outsider]) await routeToPods(host, network);
    return new PodsMesh({ folder, mesh, network, storeHost, outsider }, stack.move());
  }

  get deskHost(): TestHost {
    return this.network.host;
  }

  get control(): ControlPlane {
    return this.mesh.control;
  }

  /** Does something when the mesh is closed, before what was there earlier ends. */
  defer(end: () => Promise<unknown>): void {
    this.#stack.defer(async () => void (await end()));
  }

  /** Starts the agents, registers what the hosts have, and then puts the policy in force, behind which all of it is known. */
  async join({
    host,
    settings,
    workloads,
  }: JoinedDesk): Promise<{ readonly desk: MeshHost; readonly store: MeshHost }> {
    await this.serve(this.storeHost, 'store');
    const store = await this.mesh.joinHost(this.storeHost, 'store');
    const desk = await this.mesh.joinHost(host, 'desk', settings);
    for (const workload of [nginxOf('/invoices'), REMOTE])
      await this.mesh.register({ ...workload, on: store });
    for (const workload of workloads) await this.mesh.register({ ...workload, on: desk });
    const policy = join(import.meta.dirname, 'policies/pods');
    await this.control.picketOk('policy', 'publish', policy, '-m', 'pods');
    return { desk, store };
  }

  /** Confirms that addresses of pods are `desk`'s, as other hosts must know. */
  async confirm(...addresses: readonly string[]): Promise<void> {
    const node = 'spiffe://example.org/picket/agent/join_token/desk';
    for (const address of addresses) await this.control.picketOk('node', 'address', 'add', node, address);
  }

  /** An nginx that answers with where it is, `at=NAME`, and with who is said to call. */
  async serve(on: TestHost, name: string, options: Pick<NginxOptions, 'listen'> = {}): Promise<Child> {
    const nginx = await startNginx(on, {
      ...options,
      folder: join(this.folder, `nginx-${name}`),
      locations: `location / { default_type text/plain; return 200 "at=${name} caller=$http_x_forwarded_client_cert\\n"; }`,
    });
    this.defer(async () => await nginx.stop());
    return nginx;
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** How somebody asks: the user, for `/`, for as long as curl takes, unless given. */
export interface PodAsking {
  readonly uid?: number;
  readonly path?: string;
  readonly seconds?: number;
  readonly args?: readonly string[];
}

/** A request at an address of either family. */
export async function askAt(
  from: TestHost,
  address: string,
  { uid = POD_USER, path = '/', seconds = 10, args = [] }: PodAsking = {},
): Promise<CurlAnswer> {
  const host = address.includes(':') ? `[${address}]` : address;
  return await curl(from, { uid, args: ['-m', String(seconds), `http://${host}${path}`, ...args] });
}

/** Waits until the rules that somebody took away in a pod are there again. */
export async function awaitRules(pod: TestPod): Promise<void> {
  await waitUntil('its rules are back', async () =>
    (await pod.runOk('nft', 'list', 'tables')).includes('inet picket'),
  );
}
