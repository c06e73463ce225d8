import type { Registry } from 'prom-client';
import type { Clock } from '../../shared/runtime/clock.ts';
import { addCounter, addGauge } from '../../shared/runtime/metrics.ts';
import { findDiskSpace } from '../../shared/runtime/process-limits.ts';
import { descriptorReserve } from '../native/descriptor-reserve.ts';
import type { HeldSvid } from '../identity/identity.ts';
import { addFiguresByWorker } from './figures-by-worker.ts';
import type { AgentState } from './status.ts';

/** How the agent stands, as figures that are read when somebody asks; what is not known yet is not told. */
export function addStateFigures(
  registry: Registry,
  { state, clock }: { readonly state: AgentState; readonly clock: Clock },
): void {
  const figures: Figures = {
    gauge: (name, help, read) => addGauge(registry, { name, help, read: (tell) => tellKnown(tell, read()) }),
    counter: (name, help, read) =>
      addCounter(registry, { name, help, read: (tell) => tellKnown(tell, read()) }),
  };
  addCertificateFigures(registry, { state, clock });
  addServerFigures(figures, state);
  addTrafficFigures(figures, state);
  addCaptureFigures(figures, state);
  addNamespaceFigures(registry, state);
  addHandoverFigures(figures, state);
  addSpoolFigures(figures, state);
  addFiguresByWorker(registry, state);
  addLabelledFigures(registry, state);
}

/** With a series for each reason, issuer, service or way. */
function addLabelledFigures(registry: Registry, state: AgentState): void {
  addCounter(registry, {
    name: 'picket_mesh_turned_away_total',
    help: 'Connections of other hosts that had to go because places ran short: unproven, idle, or newcomers while all were full.',
    labels: ['why'],
    read: (tell) => {
      for (const [why, count] of state.crowd.counts) tell(count, { why });
    },
  });
  addGauge(registry, {
    name: 'picket_user_keys',
    help: 'Keys of an issuer of user tokens that are held here; with none, nobody is known by it.',
    labels: ['issuer'],
    read: (tell) => {
      for (const { name, keys } of state.userIssuers()) tell(keys, { issuer: name });
    },
  });
  addGauge(registry, {
    name: 'picket_service_members',
    help: 'Members of services in several places as this host sees them: well, or passed over for a while.',
    labels: ['service', 'state'],
    read: (tell) => {
      for (const { name, members } of state.services()) {
        const ejected = members.filter(({ ejectedMs }) => ejectedMs > 0).length;
        tell(members.length - ejected, { service: name, state: 'well' });
        tell(ejected, { service: name, state: 'ejected' });
      }
    },
  });
  addGauge(registry, {
    name: 'picket_holder_search',
    help: '1 for how the processes behind sockets are found.',
    labels: ['by'],
    read: (tell) => {
      const by = state.holderSearch();
      if (by !== undefined) tell(1, { by });
    },
  });
}

type AddFigure = (name: string, help: string, read: () => number | undefined) => void;

interface Figures {
  readonly gauge: AddFigure;
  readonly counter: AddFigure;
}

/** The agent's own certificate, and of the workloads' the one that ends first: a series for each would grow with the host. */
function addCertificateFigures(
  registry: Registry,
  { state, clock }: { readonly state: AgentState; readonly clock: Clock },
): void {
  const figures = (
    name: string,
    help: string,
    secondsOf: (svid: HeldSvid) => number,
    pick: (...seconds: number[]) => number,
  ): void =>
    addGauge(registry, {
      name,
      help,
      labels: ['of'],
      read: (tell) => {
        const source = state.identities();
        if (source === undefined) return;
        tell(secondsOf(source.agentSvid.current), { of: 'agent' });
        const workloads = Array.from(source.identities.current.values(), ({ svid }) => secondsOf(svid));
        if (workloads.length > 0) tell(pick(...workloads), { of: 'workloads' });
      },
    });
  figures(
    'picket_certificate_remaining_seconds',
    'Life left of the certificate; of the workloads’, the one that ends first.',
    (svid) => (svid.notAfterMs - clock.nowMs()) / 1000,
    Math.min,
  );
  figures(
    'picket_certificate_age_seconds',
    'Age of the certificate; of the workloads’, the oldest.',
    (svid) => (clock.nowMs() - svid.notBeforeMs) / 1000,
    Math.max,
  );
}

function addServerFigures({ gauge }: Figures, state: AgentState): void {
  gauge('picket_ready', '1 when the agent does all its work.', () => flag(state.findMissing() === undefined));
  gauge('picket_server_connected', '1 with a connection to a server.', () =>
    flag(state.server().isConnected),
  );
  gauge('picket_server_last_heard_seconds', 'When the server was last heard, in seconds since 1970.', () => {
    const { lastHeardAt } = state.server();
    return lastHeardAt === undefined ? undefined : Date.parse(lastHeardAt) / 1000;
  });
  gauge('picket_clock_skew_seconds', 'How far the clock of the host is ahead of the server’s.', () => {
    const { clockSkewMs } = state.server();
    return clockSkewMs === undefined ? undefined : clockSkewMs / 1000;
  });
  gauge('picket_policy_version', 'Version of the policy in force.', () => state.policy()?.version);
  gauge(
    'picket_services_in_audit',
    'Services of this host that are in audit mode: what the policy denies to them passes.',
    () => state.auditedServices().length,
  );
  gauge('picket_policy_sequence', 'Sequence of the policy in force.', () => state.policy()?.sequence);
}

function addTrafficFigures({ gauge, counter }: Figures, state: AgentState): void {
  gauge('picket_udp_deciding', '1 while UDP that leaves this host is heard of and decided on.', () =>
    flag(state.udp()?.isHearing),
  );
  gauge(
    'picket_udp_deaf_namespaces',
    'Captured namespaces in which UDP is not heard of, and dropped.',
    () => state.udp()?.deafIn.length,
  );
  gauge('picket_udp_flows', 'Flows of UDP that may pass.', () => state.udp()?.flows);
  gauge('picket_udp_flows_max', 'Flows of UDP that may pass at once.', () => state.udp()?.maxFlows);
  counter(
    'picket_udp_denied_datagrams_total',
    'Datagrams of flows that were denied.',
    () => state.udp()?.denied,
  );
  counter(
    'picket_udp_lost_datagrams_total',
    'Datagrams that were dropped undecided: too many at once, too long, or not to be sent on.',
    () => state.udp()?.lost,
  );
  counter(
    'picket_descriptor_refusals_total',
    'Connections that were refused for want of file descriptors.',
    () => descriptorReserve().refused + state.workerDescriptorsRefused(),
  );
  gauge(
    'picket_workload_identities',
    'Identities that the agent may serve.',
    () => state.identities()?.identities.current.size,
  );
  gauge(
    'picket_quarantines',
    'Quarantines in force in the mesh, as this host knows them.',
    () => state.quarantined()?.inForce,
  );
  gauge('picket_host_quarantined', '1 while this host is in quarantine.', () =>
    flag(state.quarantined()?.isThisHost),
  );
  gauge('picket_connections', 'Connections that pass through the agent.', () => state.connections());
  gauge('picket_connections_max', 'Connections that may pass at once.', () => state.maxConnections());
  gauge(
    'picket_workload_api_connections',
    'Connections to the Workload API.',
    () => state.workloadApi()?.connections,
  );
  gauge('picket_workload_api_streams', 'Streams of the Workload API.', () => state.workloadApi()?.streams);
}

/** Nothing where the host's own network namespace is captured alone. */
function addNamespaceFigures(registry: Registry, state: AgentState): void {
  addGauge(registry, {
    name: 'picket_namespaces',
    help: 'Other network namespaces of the host: captured, absent, failed, or beyond the number that is captured at once.',
    labels: ['state'],
    read: (tell) => {
      const all = state.namespaceStatus();
      const beyond = Array.from(state.namespacesBeyond().values()).reduce((sum, count) => sum + count, 0);
      if (all.length + beyond === 0) return;
      for (const each of ['captured', 'absent', 'failed'] as const)
        tell(all.filter((namespace) => namespace.state === each).length, { state: each });
      tell(beyond, { state: 'beyond' });
    },
  });
}

function addCaptureFigures({ gauge, counter }: Figures, state: AgentState): void {
  gauge('picket_capture_intact', '1 when the rules in the kernel are the agent’s.', () =>
    flag(state.capture()?.isIntact),
  );
  counter(
    'picket_capture_repairs_total',
    'How often somebody else’s change of the rules was undone.',
    () => state.capture()?.repairs,
  );
  gauge('picket_capture_contested', '1 while somebody takes the rules away again and again.', () =>
    flag(state.capture()?.isContested),
  );
}

function addHandoverFigures({ gauge }: Figures, state: AgentState): void {
  gauge(
    'picket_predecessor_connections',
    'Connections of the agent that this one took over from; absent once that has ended.',
    () => state.predecessor()?.connections,
  );
}

function addSpoolFigures({ gauge, counter }: Figures, state: AgentState): void {
  gauge(
    'picket_audit_spool_records',
    'Records that the server does not have yet.',
    () => state.spool()?.depth,
  );
  gauge('picket_audit_spool_bytes', 'Bytes of the spool on disk.', () => state.spool()?.bytes);
  counter(
    'picket_audit_refused_total',
    'Records that could not be kept; their requests were refused.',
    () => state.spool()?.refused,
  );
  gauge(
    'picket_audit_refusing',
    '1 while decisions cannot be recorded, so that requests are refused.',
    () => {
      const spool = state.spool();
      return flag(spool && spool.refusing !== undefined);
    },
  );
  gauge('picket_audit_held_back', '1 while the server takes fewer records of this host than there are.', () =>
    flag(state.spool()?.isHeldBack),
  );
  gauge(
    'picket_data_disk_free_bytes',
    'Room on the disk that holds state and spool.',
    () => findDiskSpace(state.dataDirectory)?.freeBytes,
  );
}

function tellKnown(tell: (value: number) => void, value: number | undefined): void {
  if (value !== undefined) tell(value);
}

function flag(isSet: boolean | undefined): number | undefined {
  return isSet === undefined ? undefined : Number(isSet);
}
