import { asideFolder } from '../audit/spool-place.ts';
import type { ChosenCapture } from '../capture/open-capture.ts';
import type { AgentConfig } from '../config/config.ts';
import type { AgentBase } from './agent-base.ts';
import type { LeavingSettings } from './data-path.ts';
import type { Knowledge } from './open-knowledge.ts';
import type { ListenIn } from '../namespaces/namespace-place.ts';
import { listenToAll, openDatagramLane } from './start-datagrams.ts';
import type { Traffic } from './traffic.ts';
import { JointCarrier } from '../handover/joint-carrier.ts';
import { countLanes } from '../workers/count-workers.ts';
import { laneDirectory } from '../workers/worker-lanes.ts';
import type { WorkerConfig } from '../workers/worker-messages.ts';
import { WorkerNamespaces } from '../workers/worker-namespaces.ts';
import { WorkerSockets, type SharedAddress } from '../workers/worker-sockets.ts';
import { prepareWorkers } from '../workers/workers.ts';

/** Both families on one socket. */
const EVERYWHERE = '::';
/** Settings of the engine itself, which an administrator may have set for the agent. */
const ENGINE_SETTING = /^BUN_/;

/** Prepares the data path in processes of its own. Throws as `WorkerSockets` and `prepareWorkers`. */
export async function prepareInWorkers(
  base: AgentBase,
  parts: Knowledge & { readonly chosen: ChosenCapture; readonly leaving: LeavingSettings },
): Promise<Traffic> {
  const { config, runtime, workers: count, artifacts, denials, clock, log } = base;
  const { chosen, leaving, manager, holder, identity } = parts;
  const lane = openDatagramLane(base, parts);
  const addresses = listAddresses(config);
  const settings = Object.entries(runtime.environment).filter(([name]) => ENGINE_SETTING.test(name));
  const workers = await prepareWorkers({
    command: runtime.workerCommand,
    environment: Object.fromEntries(settings) as Record<string, string>,
    count,
    configOf: (worker) => configOf(config, { worker, count, leaving, backend: chosen.capture.backend }),
    sockets: new WorkerSockets({ addresses, workers: count, sockets: base.sockets }),
    namespaces: openWorkerNamespaces(base),
    whenAlone: base.predecessor && ((listener) => base.predecessor?.whenRetired(listener)),
    manager,
    policy: holder.policy,
    artifactOf: (policy) => artifacts.artifactOf(policy),
    send: async (batch) => await identity.api.sendAudit(batch),
    denials,
    crowd: base.parts.crowd,
    clock,
    random: Math.random,
    log,
  });
  base.add('workers', workers);
  base.parts.workers = workers;
  return {
    start: async (captured) => {
      // First, for what is to a pod may come to a worker as soon as it listens: it knows by then where they live.
      const datagrams = lane?.start();
      const listenIn: ListenIn = (namespace) => listenToAll(namespace, [workers, datagrams]);
      await captured?.listen(listenIn);
      await workers.listen();
      base.parts.proxy = workers;
      return {
        listenIn,
        // Each ships its own.
        ship: () => (lane === undefined ? workers : new JointCarrier([workers, lane.ship()])),
      };
    },
  };
}

function openWorkerNamespaces({
  config,
  namespaces,
  sockets,
  clock,
  log,
}: AgentBase): WorkerNamespaces | undefined {
  if (namespaces === undefined) return undefined;
  const { ports, capture } = config;
  return new WorkerNamespaces({ namespaces, sockets, port: ports.outbound, mark: capture.mark, clock, log });
}

/** Another host, or a caller in plaintext, is known by its address; a program of this host by its process. */
function listAddresses({ ports, forwards }: AgentConfig): readonly SharedAddress[] {
  return [
    { address: EVERYWHERE, port: ports.outbound, by: 'process' },
    { address: EVERYWHERE, port: ports.inbound, by: 'source' },
    { address: EVERYWHERE, port: ports.mesh, by: 'source' },
    ...forwards.map(({ listen }) => ({ ...listen, by: 'process' as const })),
  ];
}

/** Places and disk are divided evenly: together they never are more than the configuration says. */
function configOf(
  config: AgentConfig,
  place: {
    readonly worker: number;
    readonly count: number;
    readonly leaving: LeavingSettings;
    readonly backend: 'nftables' | 'ebpf';
  },
): WorkerConfig {
  const {
    servers,
    ports,
    forwards,
    mesh,
    limits,
    egress,
    networks,
    issuers,
    traces,
    capture,
    audit,
    logLevel,
  } = config;
  const { worker, count, leaving, backend } = place;
  const part = (of: number): number => Math.max(1, Math.floor(of / count));
  return {
    ports,
    forwards,
    mesh,
    egress,
    servers,
    leaving,
    networks: [...networks],
    issuers,
    traces,
    logLevel,
    limits: {
      ...limits,
      connections: part(limits.connections),
      // All connections of a host come to one worker: undivided, it could have all places there.
      connectionsPerHost: part(limits.connectionsPerHost),
    },
    // What `auto` came to is the same for all.
    capture: {
      mark: capture.mark,
      transparentId: capture.transparentId,
      choice: { ...capture.choice, backend },
      namespaces: capture.namespaces,
    },
    audit: {
      ...audit,
      directory: laneDirectory(audit.directory, worker),
      asideFolder: asideFolder(audit.directory),
      maxBytes: Math.floor(audit.maxBytes / countLanes(config)),
    },
  };
}
