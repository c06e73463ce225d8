import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { createdToken, nodePage, tpmHostPage } from '../../shared/protocol/operator.ts';
import { entry } from '../../shared/protocol/registration.ts';
import { ControlPlane, type ControlPlaneOptions } from './control-plane.ts';
import { MeshHost, type HostAttestation, type MeshHostOptions } from './mesh-host.ts';
import { createTestNetwork, type TestHost, type TestNetwork } from './netns.ts';
import { waitUntil } from './wait.ts';

export type MeshOptions = Omit<ControlPlaneOptions, 'host' | 'databaseUrl'> & {
  /** Starts a PostgreSQL where the server reaches it, and tells its URL; the embedded PGlite if absent. */
  readonly startDatabase?: (host: TestHost) => Promise<string>;
  /** How many hosts the network has; the first one is the server's. */
  readonly hosts: number;
};

export interface HostOptions {
  readonly name: string;
  readonly attestation: HostAttestation;
  /** The server's trust bundle in a file, if absent. */
  readonly trust?: MeshHostOptions['trust'];
  readonly settings?: MeshHostOptions['settings'];
}

/** A workload to register. */
export interface WorkloadOptions {
  /** Path of its SPIFFE ID, with the slash. */
  readonly path: string;
  readonly on: MeshHost;
  readonly selectors: readonly string[];
  /** PORT or PORT/PROTOCOL. */
  readonly listen?: readonly string[];
  readonly ttl?: string;
}

/** A whole mesh of a test: hosts as network namespaces, a server, agents, all from the compiled binary. */
export interface Mesh {
  readonly network: TestNetwork;
  readonly control: ControlPlane;
  /** Sets up an agent on a host; it is not started. */
  prepareHost(host: TestHost, options: HostOptions): MeshHost;
  /** Sets up an agent with a join token of its own; it is not started. */
  prepareJoin(host: TestHost, name: string, settings?: MeshHostOptions['settings']): Promise<MeshHost>;
  /** Sets up and starts an agent with a join token of its own, and waits until the server has its address. */
  joinHost(host: TestHost, name: string, settings?: MeshHostOptions['settings']): Promise<MeshHost>;
  /** Starts an agent whose TPM nobody knows, approves the TPM that shows up, and waits until the host has attested. */
  admitTpmHost(agent: MeshHost): Promise<void>;
  /** Registers a workload; the entry's id. */
  register(workload: WorkloadOptions): Promise<string>;
  /** Ends every agent, removes its rules, ends the server, removes the network. */
  remove(): Promise<void>;
}

/** Makes the network, the certificate authority and a running server. */
export async function createMesh(options: MeshOptions): Promise<Mesh> {
  mkdirSync(options.folder, { recursive: true });
  const network = await createTestNetwork(options.hosts);
  const [host] = network.hosts;
  if (host === undefined) throw new RangeError('A mesh needs a host');
  const databaseUrl = await options.startDatabase?.(host);
  const control = new ControlPlane({
    ...options,
    folder: join(options.folder, 'server'),
    host,
    ...(databaseUrl === undefined ? {} : { databaseUrl }),
  });
  const agents: MeshHost[] = [];
  const mesh = new StartedMesh({ options, network, control, agents });
  try {
    await control.createAuthority();
    await control.start();
  } catch (error) {
    await mesh.remove();
    throw error;
  }
  return mesh;
}

interface MeshParts {
  readonly options: MeshOptions;
  readonly network: TestNetwork;
  readonly control: ControlPlane;
  readonly agents: MeshHost[];
}

class StartedMesh implements Mesh {
  readonly network: TestNetwork;
  readonly control: ControlPlane;
  readonly #options: MeshOptions;
  readonly #agents: MeshHost[];

  constructor(parts: MeshParts) {
    this.network = parts.network;
    this.control = parts.control;
    this.#options = parts.options;
    this.#agents = parts.agents;
  }

  prepareHost(host: TestHost, { name, attestation, trust, settings }: HostOptions): MeshHost {
    const agent = new MeshHost({
      host,
      name,
      folder: join(this.#options.folder, name),
      trustDomain: this.#options.trustDomain,
      server: `${this.control.host.ipv4}:8443`,
      trust: trust ?? { bundleFile: this.control.bundleFile },
      attestation,
      ...(settings === undefined ? {} : { settings }),
    });
    this.#agents.push(agent);
    return agent;
  }

  async prepareJoin(host: TestHost, name: string, settings?: MeshHostOptions['settings']): Promise<MeshHost> {
    const addresses = ['--address', host.ipv4, '--address', host.ipv6];
    const made = await this.control.picketJson(createdToken, 'token', 'create', name, ...addresses);
    const attestation = { type: 'join_token', token: made.token } as const;
    return this.prepareHost(host, { name, attestation, ...(settings === undefined ? {} : { settings }) });
  }

  async joinHost(host: TestHost, name: string, settings?: MeshHostOptions['settings']): Promise<MeshHost> {
    const agent = await this.prepareJoin(host, name, settings);
    await agent.start();
    return agent;
  }

  async admitTpmHost(agent: MeshHost): Promise<void> {
    const child = agent.launch();
    const ekHash = await waitUntil(`the TPM of ${agent.name} shows up`, async () => await this.#pendingTpm());
    await this.control.picketOk(
      'node',
      'tpm',
      'approve',
      ekHash,
      '--name',
      agent.name,
      '--address',
      agent.host.ipv4,
      '--address',
      agent.host.ipv6,
    );
    await child.ready(`${agent.name} has attested`, async () => await agent.isReady(), 30_000);
  }

  async register(workload: WorkloadOptions): Promise<string> {
    const { nodeId } = await this.#nodeOf(workload.on);
    const made = await this.control.picketJson(
      entry,
      'entry',
      'create',
      `spiffe://${this.#options.trustDomain}${workload.path}`,
      '--parent',
      nodeId,
      ...workload.selectors.flatMap((selector) => ['--selector', selector]),
      ...(workload.listen ?? []).flatMap((listen) => ['--listen', listen]),
      ...(workload.ttl === undefined ? [] : ['--ttl', workload.ttl]),
    );
    return made.entryId;
  }

  async remove(): Promise<void> {
    for (const agent of this.#agents) await agent.stop('SIGKILL');
    await this.control.stop('SIGKILL');
    await this.network.remove();
  }

  async #pendingTpm(): Promise<string | undefined> {
    const { items } = await this.control.picketJson(tpmHostPage, 'node', 'tpm', 'list');
    return items.find((tpm) => tpm.state === 'pending')?.ekHash;
  }

  async #nodeOf(agent: MeshHost): Promise<z.output<typeof nodePage>['items'][number]> {
    const { items } = await this.control.picketJson(nodePage, 'node', 'list');
    const node = items.find(({ nodeId }) => nodeId.endsWith(`/${agent.name}`));
    if (node === undefined) throw new Error(`The server knows no node ${agent.name}`);
    return node;
  }
}
