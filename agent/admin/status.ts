import { summarizeCrowd, type CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { findDiskSpace, readDescriptorUse } from '../../shared/runtime/process-limits.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { CaptureStatus } from '../capture/capture-keeper.ts';
import { descriptorReserve } from '../native/descriptor-reserve.ts';
import type { HeldSvid, IdentitySource } from '../identity/identity.ts';
import type { SpoolStatus } from '../audit/spool.ts';
import type { TurnedAway } from '../proxy/mesh.ts';
import type { HolderSearch } from '../workload-attestation/holder-finder.ts';
import type { QuarantineStatus } from '../quarantine/quarantine.ts';
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
  /** Services of this host that are in audit mode. */
  readonly auditedServices: () => readonly SpiffeId[];
  readonly spool: () => SpoolStatus | undefined;
  /** How the processes behind sockets are found. */
  readonly holderSearch: () => HolderSearch | undefined;
  readonly workloadApi: () => { readonly connections: number; readonly streams: number } | undefined;
  readonly quarantined: () => QuarantineStatus | undefined;
  /** Connections that pass through the proxy now. */
  readonly connections: () => number;
  readonly maxConnections: () => number;
  /** Connections of other hosts that were turned away because places ran short. */
  readonly crowd: CrowdTally<TurnedAway>;
  readonly dataDirectory: string;
}

/** How the agent stands, as told on the admin socket. */
export function buildStatus(state: AgentState): StatusAnswer {
  const source = state.identities();
  const capture = state.capture();
  const spool = state.spool();
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
    capture: {
      mode: capture?.backend ?? 'off',
      isIntact: capture?.isIntact ?? false,
      repairs: capture?.repairs ?? 0,
      isWatched: capture?.isWatched ?? false,
      isContested: capture?.isContested ?? false,
      ...(capture?.changedBy === undefined ? {} : { changedBy: capture.changedBy }),
      localPorts: [...state.localPorts()],
    },
    auditedServices: [...state.auditedServices()],
    audit: {
      depth: spool?.depth ?? 0,
      bytes: spool?.bytes ?? 0,
      refused: spool?.refused ?? 0,
      ...(spool?.refusing === undefined ? {} : { refusing: spool.refusing }),
    },
    holderSearch: state.holderSearch() ?? null,
    workloadApi: { connections: api?.connections ?? 0, streams: api?.streams ?? 0 },
    quarantine: quarantineOf(state),
    connections: state.connections(),
    maxConnections: state.maxConnections(),
    turnedAway: summarizeCrowd([state.crowd]),
    ...resourcesOf(state.dataDirectory),
  };
}

function quarantineOf(state: AgentState): StatusAnswer['quarantine'] {
  const { inForce = 0, isThisHost = false, holdsOwn } = state.quarantined() ?? {};
  const own = new Set(
    Array.from(state.identities()?.identities.current.values() ?? [], ({ svid }) => svid.spiffeId),
  );
  return { inForce, isThisHost, workloads: [...own].filter((id) => holdsOwn?.(id)).toSorted() };
}

/** What the process has of the host. */
function resourcesOf(dataDirectory: string): Pick<StatusAnswer, 'descriptors' | 'dataDirectory' | 'disk'> {
  const { open, limit } = readDescriptorUse();
  const { reserved, refused } = descriptorReserve();
  const disk = findDiskSpace(dataDirectory);
  return {
    descriptors: { open, limit: Number.isFinite(limit) ? limit : null, reserved, refused },
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
