import { enforcementModeOf } from '../shared/policy/enforcement.ts';
import type { SpiffeId } from '../shared/spiffe/spiffe-id.ts';
import type { StatusAnswer } from './admin/admin-answers.ts';
import type { AgentState } from './admin/status.ts';
import type { Spool } from './audit/spool.ts';
import type { CaptureKeeper, CaptureStatus } from './capture/capture-keeper.ts';
import type { Directory } from './directory/directory.ts';
import type { IdentitySource } from './identity/identity.ts';
import type { IdentityManager } from './identity/identity-manager.ts';
import type { OpenedIdentity } from './identity/open-identity-manager.ts';
import type { PolicyHolder } from './policy/policy-holder.ts';
import type { Proxy } from './proxy/proxy.ts';
import type { HeldQuarantine, QuarantineStatus } from './quarantine/quarantine.ts';
import type { WorkloadApi } from './workload-api/workload-api.ts';
import type { HolderFinder, HolderSearch } from './workload-attestation/holder-finder.ts';

/** What is known of the agent from the start. */
export interface AgentFacts extends Pick<
  AgentState,
  'version' | 'startedAtMs' | 'trustDomain' | 'dataDirectory' | 'crowd'
> {
  /** Whether it installs the capture rules and keeps them. */
  readonly keepsCapture: boolean;
}

/** What runs so far: each part is put here as it starts, for status, metrics and readiness. */
export class RunningParts implements AgentState {
  readonly version: AgentState['version'];
  readonly startedAtMs: number;
  readonly trustDomain: AgentState['trustDomain'];
  readonly dataDirectory: string;
  readonly crowd: AgentState['crowd'];
  readonly #keepsCapture: boolean;
  manager: IdentityManager | undefined;
  link: Pick<OpenedIdentity, 'api' | 'time'> | undefined;
  holder: PolicyHolder | undefined;
  keeper: CaptureKeeper | undefined;
  directory: Directory | undefined;
  queue: Spool | undefined;
  api: WorkloadApi | undefined;
  proxy: Proxy | undefined;
  quarantine: HeldQuarantine | undefined;
  finder: Pick<HolderFinder, 'search'> | undefined;

  constructor(facts: AgentFacts) {
    this.version = facts.version;
    this.startedAtMs = facts.startedAtMs;
    this.trustDomain = facts.trustDomain;
    this.dataDirectory = facts.dataDirectory;
    this.crowd = facts.crowd;
    this.#keepsCapture = facts.keepsCapture;
  }

  readonly findMissing = (): string | undefined => {
    if (this.manager === undefined || this.proxy === undefined) return 'the agent is starting';
    if (this.#keepsCapture && this.keeper?.status.isIntact !== true)
      return 'the capture rules are not in place';
    if (this.manager.credentials === undefined) return 'the host has not attested';
    if (this.manager.sync.current.position === undefined) return 'the server has not told anything yet';
    return undefined;
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

  readonly localPorts = (): readonly number[] => this.directory?.localPorts() ?? [];

  readonly auditedServices = (): readonly SpiffeId[] => {
    const { entries, enforcement } = this.manager ?? {};
    if (entries === undefined || enforcement === undefined) return [];
    const services = Array.from(entries.current.values())
      .filter(({ listeners }) => listeners.length > 0)
      .map(({ spiffeId }) => spiffeId);
    return [...new Set(services)].filter((id) => enforcementModeOf(id, enforcement.current) === 'audit');
  };

  readonly spool = () => this.queue?.status;

  readonly holderSearch = (): HolderSearch | undefined => this.finder?.search;

  readonly workloadApi = () => this.api;

  readonly quarantined = (): QuarantineStatus | undefined => this.quarantine?.status;

  readonly connections = (): number => this.proxy?.connections ?? 0;

  readonly maxConnections = (): number => this.proxy?.maxConnections ?? 0;
}
