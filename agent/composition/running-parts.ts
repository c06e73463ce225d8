import { enforcementModeOf } from '../../shared/policy/enforcement.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { StatusAnswer } from '../admin/admin-answers.ts';
import type { AgentState } from '../admin/status.ts';
import type { MovableSpool } from '../audit/movable-spool.ts';
import type { CaptureKeeper, CaptureStatus } from '../capture/capture-keeper.ts';
import type { TransparentPorts } from '../capture/resolved-settings.ts';
import type { AgentConfig } from '../config/config.ts';
import type { Directory } from '../directory/directory.ts';
import { describeHbone, type HboneStatus } from '../directory/hbone-status.ts';
import type { DrainStatus } from '../handover/predecessor.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { IdentityManager } from '../identity/identity-manager.ts';
import type { OpenedIdentity } from '../identity/open-identity-manager.ts';
import type { InspectionStatus } from '../inspection/inspection.ts';
import type { InspectionAuthority } from '../inspection/inspection-authority.ts';
import type { NamespaceKeeper } from '../namespaces/namespace-keeper.ts';
import type { NamespaceStatus } from '../namespaces/namespace-place.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import type { Datagrams, DatagramStatus } from '../proxy/datagrams/datagrams.ts';
import type { Proxy } from '../proxy/proxy.ts';
import type { TokenUsers } from '../users/token-users.ts';
import type { HeldQuarantine, QuarantineStatus } from '../quarantine/quarantine.ts';
import type { IssuerStatus } from '../users/users.ts';
import type { ServiceStatus } from '../services/services.ts';
import type { WorkloadApi } from '../workload-api/workload-api.ts';
import { sumSpools } from '../workers/worker-figures.ts';
import type { WorkerStatus } from '../workers/worker-slot.ts';
import type { Workers } from '../workers/workers.ts';
import type { HolderFinder, HolderSearch } from '../workload-attestation/holder-finder.ts';

/** What is known of the agent from the start. */
export interface AgentFacts extends Pick<
  AgentState,
  'version' | 'startedAtMs' | 'trustDomain' | 'dataDirectory' | 'crowd'
> {
  /** Whether it installs the capture rules and keeps them. */
  readonly keepsCapture: boolean;
  /** What the configuration says of HBONE. */
  readonly hboneConfig: AgentConfig['mesh']['hbone'];
  /** Whether it was started as a gateway out of the mesh. */
  readonly isGateway: boolean;
}

/** What runs so far: each part is put here as it starts, for status, metrics and readiness. */
export class RunningParts implements AgentState {
  readonly version: AgentState['version'];
  readonly startedAtMs: number;
  readonly trustDomain: AgentState['trustDomain'];
  readonly dataDirectory: string;
  readonly crowd: AgentState['crowd'];
  readonly #keepsCapture: boolean;
  readonly #hboneConfig: AgentFacts['hboneConfig'];
  readonly #isGateway: boolean;
  manager: IdentityManager | undefined;
  link: Pick<OpenedIdentity, 'api' | 'time'> | undefined;
  holder: PolicyHolder | undefined;
  keeper: CaptureKeeper | undefined;
  directory: Directory | undefined;
  queue: MovableSpool | undefined;
  api: WorkloadApi | undefined;
  proxy: Pick<Proxy, 'connections' | 'maxConnections' | 'services'> | undefined;
  datagrams: Pick<Datagrams, 'status'> | undefined;
  workers: Workers | undefined;
  namespaces: Pick<NamespaceKeeper, 'status' | 'beyond'> | undefined;
  quarantine: HeldQuarantine | undefined;
  finder: Pick<HolderFinder, 'search'> | undefined;
  users: Pick<TokenUsers, 'status'> | undefined;
  inspectionAuthority: InspectionAuthority | undefined;
  takenOver: { readonly draining: DrainStatus | undefined } | undefined;

  constructor(facts: AgentFacts) {
    this.version = facts.version;
    this.startedAtMs = facts.startedAtMs;
    this.trustDomain = facts.trustDomain;
    this.dataDirectory = facts.dataDirectory;
    this.crowd = facts.crowd;
    this.#keepsCapture = facts.keepsCapture;
    this.#hboneConfig = facts.hboneConfig;
    this.#isGateway = facts.isGateway;
  }

  readonly findMissing = (): string | undefined => {
    if (this.manager === undefined || this.proxy === undefined) return 'the agent is starting';
    if (this.#keepsCapture && this.keeper?.status.isIntact !== true)
      return 'the capture rules are not in place';
    // What was found in a folder does not count: whoever is root in a pod can keep it from being captured, and must not take the host out of service.
    const failed = this.namespaceStatus().find(({ state, isFound }) => state === 'failed' && !isFound);
    if (failed !== undefined) return `the namespace ${failed.name} cannot be captured`;
    if (this.manager.credentials === undefined) return 'the host has not attested';
    if (this.manager.sync.current.position === undefined) return 'the server has not told anything yet';
    return this.workers?.findMissing();
  };

  readonly identities = (): IdentitySource | undefined =>
    this.manager?.credentials === undefined ? undefined : this.manager;

  readonly server = (): StatusAnswer['server'] => {
    const refusal = this.link?.api.refusal.current?.message;
    const skewMs = this.link?.time.skewMs;
    const { lastHeardMs, failure } = this.manager?.contact ?? {};
    return {
      isConnected: this.manager?.isConnected === true,
      ...(lastHeardMs === undefined ? {} : { lastHeardAt: new Date(lastHeardMs).toISOString() }),
      ...(failure === undefined ? {} : { failure }),
      ...(refusal === undefined ? {} : { refusal }),
      ...(skewMs === undefined ? {} : { clockSkewMs: Math.round(skewMs) }),
      isClockSkewed: this.link?.time.isSkewed === true,
    };
  };

  readonly policy = (): { readonly version: number; readonly sequence: number } | undefined =>
    this.holder?.policy.current?.statement;

  readonly capture = (): CaptureStatus | undefined => this.keeper?.status;

  readonly namespaceStatus = (): readonly NamespaceStatus[] => this.namespaces?.status ?? [];

  readonly namespacesBeyond = (): ReadonlyMap<string, number> => this.namespaces?.beyond ?? new Map();

  readonly localPorts = (): readonly number[] => this.directory?.localPorts() ?? [];
  readonly transparentPorts = (): TransparentPorts =>
    this.keeper?.status.transparentPorts ?? {
      steered: this.directory?.transparentPorts() ?? [],
      leftAlone: [],
    };

  readonly gateway = (): StatusAnswer['gateway'] => {
    const registered = Array.from(this.manager?.known.entries.current.values() ?? [])
      .filter(({ listeners }) => listeners.some(({ protocol }) => protocol === 'egress'))
      .map(({ spiffeId }) => spiffeId);
    return { isEnabled: this.#isGateway, identities: [...new Set(registered)].toSorted() };
  };

  readonly inspection = (): InspectionStatus | undefined => this.inspectionAuthority?.status;

  readonly auditedServices = (): readonly SpiffeId[] => {
    if (this.manager === undefined) return [];
    const { entries, enforcement } = this.manager.known;
    const services = Array.from(entries.current.values())
      .filter(({ listeners }) => listeners.length > 0)
      .map(({ spiffeId }) => spiffeId);
    return [...new Set(services)].filter((id) => enforcementModeOf(id, enforcement.current) === 'audit');
  };

  /** Of all lanes as one. */
  readonly spool = () =>
    sumSpools([this.workers?.spool, this.queue?.status].filter((each) => each !== undefined));

  readonly workerDescriptorsRefused = (): number => this.workers?.descriptorsRefused ?? 0;

  readonly refresh = async (): Promise<void> => await this.workers?.refresh();

  readonly workerStatus = (): readonly WorkerStatus[] => this.workers?.status ?? [];

  readonly holderSearch = (): HolderSearch | undefined => this.finder?.search;

  readonly workloadApi = () => this.api;

  readonly hbone = (): HboneStatus => describeHbone(this.#hboneConfig, this.identities());

  readonly quarantined = (): QuarantineStatus | undefined => this.quarantine?.status;

  readonly userIssuers = (): readonly IssuerStatus[] => this.users?.status ?? [];

  readonly predecessor = (): DrainStatus | undefined => this.takenOver?.draining;

  readonly services = (): readonly ServiceStatus[] => this.proxy?.services ?? [];

  readonly udp = (): DatagramStatus | undefined => this.datagrams?.status;

  readonly connections = (): number => this.proxy?.connections ?? 0;

  readonly maxConnections = (): number => this.proxy?.maxConnections ?? 0;
}
