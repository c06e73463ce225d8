import { summarizeCrowd, type CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { findDiskSpace, readDescriptorUse } from '../../shared/runtime/process-limits.ts';
import type { DatagramStatus } from '../proxy/datagrams/datagrams.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { CaptureStatus } from '../capture/capture-keeper.ts';
import { descriptorReserve } from '../native/descriptor-reserve.ts';
import type { HboneStatus } from '../directory/hbone-status.ts';
import type { HeldSvid, IdentitySource } from '../identity/identity.ts';
import type { SpoolStatus } from '../audit/spool.ts';
import type { InspectionStatus } from '../inspection/inspection.ts';
import type { TransparentPorts } from '../capture/resolved-settings.ts';
import type { NamespaceStatus } from '../namespaces/namespace-place.ts';
import type { TurnedAway } from '../proxy/mesh/mesh.ts';
import type { HolderSearch } from '../workload-attestation/holder-finder.ts';
import type { IssuerStatus } from '../users/users.ts';
import type { ServiceStatus } from '../services/services.ts';
import type { QuarantineStatus } from '../quarantine/quarantine.ts';
import type { WorkerStatus } from '../workers/worker-slot.ts';
import type { DrainStatus } from '../handover/predecessor.ts';
import type { StatusAnswer } from './admin-answers.ts';

/** Where status and metrics read how the agent stands. Each is asked anew every time; undefined means not yet or not at all. */
export interface AgentState {
  readonly version: string;
  readonly startedAtMs: number;
  readonly trustDomain: TrustDomain;
  /** One sentence on what the agent still lacks to do its work; undefined when it is ready. */
  readonly findMissing: () => string | undefined;
  /** Undefined before the host has attested. */
  readonly identities: () => IdentitySource | undefined;
  readonly server: () => StatusAnswer['server'];
  readonly policy: () => { readonly version: number; readonly sequence: number } | undefined;
  /** Undefined when the agent does not keep the rules. */
  readonly capture: () => CaptureStatus | undefined;
  readonly localPorts: () => readonly number[];
  /** Where listeners of this host ask for connections from callers' addresses. */
  readonly transparentPorts: () => TransparentPorts;
  readonly gateway: () => StatusAnswer['gateway'];
  /** By what TLS is inspected; undefined: it is not. */
  readonly inspection: () => InspectionStatus | undefined;
  /** Other namespaces of this host that are to be captured. */
  readonly namespaceStatus: () => readonly NamespaceStatus[];
  /** Of those that are found in folders, how many are closed because they are too many, by label. */
  readonly namespacesBeyond: () => ReadonlyMap<string, number>;
  /** Services of this host that are in audit mode. */
  readonly auditedServices: () => readonly SpiffeId[];
  readonly spool: () => SpoolStatus | undefined;
  /** How the processes behind sockets are found. */
  readonly holderSearch: () => HolderSearch | undefined;
  readonly workloadApi: () => { readonly connections: number; readonly streams: number } | undefined;
  readonly quarantined: () => QuarantineStatus | undefined;
  /** Whose tokens tell who the user is, and how their keys stand. */
  readonly userIssuers: () => readonly IssuerStatus[];
  readonly hbone: () => HboneStatus;
  /** Connections that pass through the proxy now. */
  readonly connections: () => number;
  readonly maxConnections: () => number;
  /** Connections of other hosts that were turned away because places ran short. */
  readonly crowd: CrowdTally<TurnedAway>;
  readonly dataDirectory: string;
  /** The processes of the data path; empty where it runs in the agent itself. */
  readonly workerStatus: () => readonly WorkerStatus[];
  /** Connections that workers refused for want of file descriptors. */
  readonly workerDescriptorsRefused: () => number;
  /** Has the workers tell how they stand now. */
  readonly refresh: () => Promise<void>;
  /** The process that this one took over from, as long as it is there. */
  readonly predecessor: () => DrainStatus | undefined;
  /** Services in several places, and how this host sees their members. */
  readonly services: () => readonly ServiceStatus[];
  /** Undefined where it is dropped undecided. */
  readonly udp: () => DatagramStatus | undefined;
}

/** How the agent stands, as told on the admin socket. */
export function buildStatus(state: AgentState): StatusAnswer {
  const predecessor = state.predecessor();
  const source = state.identities();
  const missing = state.findMissing();
  const api = state.workloadApi();
  return {
    version: state.version,
    startedAt: new Date(state.startedAtMs).toISOString(),
    trustDomain: state.trustDomain,
    ...(missing === undefined ? {} : { missing }),
    agent:
      source === undefined
        ? null
        : { spiffeId: source.agentSvid.current.spiffeId, ...lifeOf(source.agentSvid.current) },
    identities: Array.from(source?.identities.current.values() ?? [], ({ entry, svid }) => ({
      spiffeId: svid.spiffeId,
      entryId: entry.entryId,
      ...lifeOf(svid),
    })),
    server: state.server(),
    policy: state.policy() ?? null,
    capture: captureOf(state),
    ...(predecessor === undefined ? {} : { predecessor }),
    gateway: state.gateway(),
    inspection: inspectionOf(state.inspection()),
    namespaces: state.namespaceStatus().map((each) => ({ ...each, addresses: [...each.addresses] })),
    namespacesBeyond: Object.fromEntries(state.namespacesBeyond()),
    auditedServices: [...state.auditedServices()],
    audit: spoolOf(state.spool()),
    holderSearch: state.holderSearch() ?? null,
    workloadApi: { connections: api?.connections ?? 0, streams: api?.streams ?? 0 },
    hbone: hboneOf(state.hbone()),
    quarantine: quarantineOf(state),
    userIssuers: state.userIssuers().map(issuerOf),
    services: state.services().map(serviceOf),
    udp: udpOf(state.udp()),
    connections: state.connections(),
    maxConnections: state.maxConnections(),
    turnedAway: summarizeCrowd([state.crowd]),
    workers: state.workerStatus().map(workerOf),
    ...resourcesOf(state),
  };
}

function captureOf(state: AgentState): StatusAnswer['capture'] {
  const capture = state.capture();
  const transparent = state.transparentPorts();
  return {
    mode: capture?.backend ?? 'off',
    isIntact: capture?.isIntact ?? false,
    repairs: capture?.repairs ?? 0,
    isWatched: capture?.isWatched ?? false,
    isContested: capture?.isContested ?? false,
    ...(capture?.changedBy === undefined ? {} : { changedBy: capture.changedBy }),
    localPorts: [...state.localPorts()],
    transparentPorts: [...transparent.steered],
    transparentLeftAlone: [...transparent.leftAlone],
    ...(capture?.returnPath === undefined ? {} : { returnPath: { ...capture.returnPath } }),
  };
}

function inspectionOf(inspection: InspectionStatus | undefined): StatusAnswer['inspection'] {
  if (inspection === undefined) return null;
  const { authority, notAfterMs } = inspection;
  return { authority, notAfter: new Date(notAfterMs).toISOString() };
}

function spoolOf(spool: SpoolStatus | undefined): StatusAnswer['audit'] {
  const { depth = 0, bytes = 0, refused = 0, refusing, isHeldBack = false } = spool ?? {};
  return { depth, bytes, refused, ...(refusing === undefined ? {} : { refusing }), isHeldBack };
}

function issuerOf({ name, keys, readAtMs, failure }: IssuerStatus): StatusAnswer['userIssuers'][number] {
  return {
    name,
    keys,
    ...(readAtMs === undefined ? {} : { readAt: new Date(readAtMs).toISOString() }),
    ...(failure === undefined ? {} : { failure }),
  };
}

function hboneOf({ callable, untrusted, ...status }: HboneStatus): StatusAnswer['hbone'] {
  return { ...status, callable: [...callable], untrusted: [...untrusted] };
}

function quarantineOf(state: AgentState): StatusAnswer['quarantine'] {
  const { inForce = 0, isThisHost = false, holdsOwn } = state.quarantined() ?? {};
  const own = new Set(
    Array.from(state.identities()?.identities.current.values() ?? [], ({ svid }) => svid.spiffeId),
  );
  return { inForce, isThisHost, workloads: [...own].filter((id) => holdsOwn?.(id)).toSorted() };
}

function workerOf({ pid, isReady, restarts, report }: WorkerStatus): StatusAnswer['workers'][number] {
  return {
    pid: pid ?? null,
    isReady,
    restarts,
    connections: report?.connections ?? 0,
    policySequence: report?.policySequence ?? 0,
  };
}

function serviceOf({ name, spiffeId, members }: ServiceStatus): StatusAnswer['services'][number] {
  return {
    name,
    spiffeId,
    members: members.map(({ address, port, locality, distance, connections, ejectedMs, lastFailure }) => ({
      address,
      port,
      ...(locality === undefined ? {} : { locality }),
      distance,
      connections,
      ejectedSeconds: Math.ceil(ejectedMs / 1000),
      ...(lastFailure === undefined ? {} : { lastFailure }),
    })),
  };
}

/** What the process has of the host. */
function resourcesOf({
  dataDirectory,
  workerDescriptorsRefused,
}: AgentState): Pick<StatusAnswer, 'descriptors' | 'dataDirectory' | 'disk'> {
  const { open, limit } = readDescriptorUse();
  const { reserved, refused } = descriptorReserve();
  const disk = findDiskSpace(dataDirectory);
  return {
    descriptors: {
      open,
      limit: Number.isFinite(limit) ? limit : null,
      reserved,
      refused: refused + workerDescriptorsRefused(),
    },
    dataDirectory,
    ...(disk === undefined ? {} : { disk }),
  };
}

function lifeOf(svid: HeldSvid): { readonly notBefore: string; readonly notAfter: string } {
  return {
    notBefore: new Date(svid.notBeforeMs).toISOString(),
    notAfter: new Date(svid.notAfterMs).toISOString(),
  };
}

function udpOf(status: DatagramStatus | undefined): StatusAnswer['udp'] {
  if (status === undefined) return null;
  const { isHearing, deafIn, otherUsersIn, flows, maxFlows } = status;
  return { isHearing, deafIn: [...deafIn], otherUsersIn: [...otherUsersIn], flows, maxFlows };
}
