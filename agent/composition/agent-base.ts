import { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { createMetrics } from '../../shared/runtime/metrics.ts';
import { Shutdown, type Running } from '../../shared/runtime/shutdown.ts';
import type { PolicyEngineLoader } from '../../shared/policy/policy-engine.ts';
import { AgentMetrics } from '../admin/agent-metrics.ts';
import { addStateFigures } from '../admin/state-figures.ts';
import type { AgentConfig } from '../config/config.ts';
import { OwnAddresses } from '../directory/own-addresses.ts';
import { ListeningSockets } from '../handover/listening-sockets.ts';
import type { Predecessor } from '../handover/predecessor.ts';
import { HostNamespaces } from '../namespaces/host-namespaces.ts';
import type { Namespaces } from '../namespaces/namespaces.ts';
import { RecentDenials } from '../proxy/records/recent-denials.ts';
import { countWorkers } from '../workers/count-workers.ts';
import { RememberingLoader } from '../workers/policy-to-run.ts';
import { AgentReplacement } from './agent-replacement.ts';
import type { AgentRuntime } from './agent-runtime.ts';
import { openNamespaces } from './open-namespaces.ts';
import { RunningParts } from './running-parts.ts';

export interface AgentBaseOptions {
  readonly config: AgentConfig;
  readonly runtime: AgentRuntime;
  /** The agent that this process takes over from. */
  readonly predecessor: Predecessor | undefined;
  readonly loader: PolicyEngineLoader;
  /** Of this process. */
  readonly uid: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What every part of a starting agent stands on, and where each is put as it runs. Nothing of it listens, writes or speaks with anybody yet. */
export class AgentBase {
  readonly config: AgentConfig;
  readonly runtime: AgentRuntime;
  readonly predecessor: Predecessor | undefined;
  readonly uid: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly shutdown: Shutdown;
  readonly parts: RunningParts;
  readonly registry: ReturnType<typeof createMetrics>;
  readonly metrics: AgentMetrics;
  readonly replacement: AgentReplacement;
  /** Of policies. */
  readonly loader: PolicyEngineLoader;
  /** The artefacts that workers are told; empty where there are none. */
  readonly artifacts: RememberingLoader;
  readonly source: HostNamespaces;
  /** Undefined where the host's own is captured alone. */
  readonly namespaces: Namespaces | undefined;
  /** How many processes carry the traffic; 1: this one. */
  readonly workers: number;
  readonly denials = new RecentDenials();
  readonly sockets = new ListeningSockets();
  readonly addresses: OwnAddresses;

  constructor({ config, runtime, predecessor, loader, uid, clock, log }: AgentBaseOptions) {
    const { version } = runtime;
    const startedAtMs = clock.nowMs();
    this.config = config;
    this.runtime = runtime;
    this.predecessor = predecessor;
    this.uid = uid;
    this.clock = clock;
    this.log = log;
    this.shutdown = new Shutdown(log);
    this.workers = countWorkers(config);
    this.artifacts = new RememberingLoader(loader);
    this.loader = this.workers === 1 ? loader : this.artifacts;
    this.addresses = new OwnAddresses(clock);
    this.source = new HostNamespaces(config.capture.namespaces);
    this.namespaces = openNamespaces(config.capture.namespaces, this);
    this.parts = new RunningParts({
      ...config,
      version,
      startedAtMs,
      keepsCapture: config.capture.isEnabled,
      hboneConfig: config.mesh.hbone,
      isGateway: runtime.isGateway === true,
      crowd: new CrowdTally(clock),
    });
    this.parts.takenOver = predecessor;
    this.registry = createMetrics({ version, role: 'agent', startedAtMs });
    this.metrics = new AgentMetrics(this.registry, this.parts);
    addStateFigures(this.registry, { state: this.parts, clock });
    this.replacement = new AgentReplacement({
      version,
      successorCommand: runtime.successorCommand,
      predecessor,
      drainMs: config.upgrade.drainMs,
      clock,
      log,
    });
  }

  /** The addresses that this host says are its own. */
  readonly claims = (): readonly string[] => {
    const ofNamespaces = this.namespaces?.addresses() ?? [];
    return [...(this.config.addresses ?? this.addresses.claimable()), ...ofNamespaces];
  };

  /** This part ends with the agent. */
  add(name: string, part: Running): void {
    this.shutdown.add(name, async () => await part.stop());
  }

  /** This part ends with the agent, and as soon as another process has taken over from it. */
  addHandedOver(name: string, part: Running & { readonly retire?: () => void }): void {
    this.replacement.endsWithIt(name, part);
    this.add(name, part);
  }
}
