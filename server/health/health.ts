import type { z } from 'zod';
import type { Registry } from 'prom-client';
import type { serverHealth } from '../../shared/protocol/operator.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { summarizeCrowd, type CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { addCounter, addGauge, createMetrics } from '../../shared/runtime/metrics.ts';
import { startMetricsListener, type ListenerAddress } from '../../shared/runtime/metrics-listener.ts';
import { findDiskSpace } from '../../shared/runtime/process-limits.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { parseX509Certificate } from '../../shared/wire/x509-certificate.ts';
import type { OnlineAuthority } from '../ca/online-authority.ts';
import type { HeldBackHost, RecordBudget } from '../audit/record-budget.ts';
import type { WatchedDatastore } from '../datastore/watched-datastore.ts';
import type { TurnedAway } from '../http/listeners/connection-guard.ts';
import type { SyncSource } from '../sync/sync.ts';
import type { ClockWatch } from './clock-watch.ts';

/** The listeners that turn connections away when places run short. */
export type ServerListener = 'agents' | 'operators' | 'socket';

/** Where health and metrics read how the server stands. */
export interface ServerState {
  readonly version: string;
  readonly trustDomain: TrustDomain;
  readonly databaseKind: 'pglite' | 'postgresql';
  readonly datastore: Pick<WatchedDatastore, 'check' | 'failure'>;
  readonly authority: Pick<OnlineAuthority, 'bundle' | 'intermediateNotAfterMs' | 'policyCertificate'>;
  readonly sync: Pick<SyncSource, 'streamCount'>;
  readonly dataDirectory: string;
  readonly clock: Clock;
  readonly clockWatch: Pick<ClockWatch, 'jumpMs' | 'hasJumped'>;
  /** Those that each listener turned away. */
  readonly crowds: Readonly<Record<ServerListener, CrowdTally<TurnedAway>>>;
  readonly budget: Pick<RecordBudget, 'heldBack' | 'refused'>;
}

/** What the server says of itself. Throws what the database fails with: without it the server does not do its work. */
export async function readHealth(state: ServerState): Promise<z.input<typeof serverHealth>> {
  const { sequence } = await state.datastore.check();
  return {
    status: 'ok',
    version: state.version,
    trustDomain: state.trustDomain,
    datastore: state.databaseKind,
    agentsConnected: state.sync.streamCount,
    intermediateNotAfter: new Date(state.authority.intermediateNotAfterMs).toISOString(),
    changeSequence: sequence,
    clockJumpMs: Math.round(state.clockWatch.jumpMs),
    hasClockJumped: state.clockWatch.hasJumped,
    turnedAway: summarizeCrowd(Object.values(state.crowds)),
    heldBack: describeHeldBack(state.budget.heldBack),
  };
}

/** Of so many the names are told. */
const MAX_NAMED = 10;

function describeHeldBack(hosts: readonly HeldBackHost[]): z.input<typeof serverHealth>['heldBack'] {
  return { count: hosts.length, hosts: hosts.slice(0, MAX_NAMED).map((host) => ({ ...host })) };
}

/** Serves the server's figures for Prometheus; undefined without an address. Throws as `startMetricsListener`. */
export function startServerMetrics(
  address: ListenerAddress | undefined,
  state: ServerState,
): Running | undefined {
  if (address === undefined) return undefined;
  const startedAtMs = state.clock.nowMs();
  const registry = createMetrics({ version: state.version, role: 'server', startedAtMs });
  addServerFigures(registry, state);
  return startMetricsListener(address, registry);
}

/** The server's figures, read when somebody asks. */
export function addServerFigures(registry: Registry, state: ServerState): void {
  addGauge(registry, {
    name: 'picket_database_ok',
    help: '1 while the database could be read and written the last time.',
    read: (tell) => tell(state.datastore.failure === undefined ? 1 : 0),
  });
  addGauge(registry, {
    name: 'picket_agents_connected',
    help: 'Agents whose stream of changes stands.',
    read: (tell) => tell(state.sync.streamCount),
  });
  addGauge(registry, {
    name: 'picket_authority_remaining_seconds',
    help: 'Life left of the certificates of the authority; of the roots’, the one that ends first.',
    labels: ['of'],
    read: (tell) => {
      for (const [of, notAfterMs] of endsOf(state.authority))
        tell((notAfterMs - state.clock.nowMs()) / 1000, { of });
    },
  });
  addGauge(registry, {
    name: 'picket_clock_jump_seconds',
    help: 'How far the clock was set ahead since the server started.',
    read: (tell) => tell(state.clockWatch.jumpMs / 1000),
  });
  addCounter(registry, {
    name: 'picket_connections_turned_away_total',
    help: 'Connections that had to go because places ran short: unproven ones, or newcomers while all were full.',
    labels: ['listener', 'why'],
    read: (tell) => {
      for (const [listener, { counts }] of Object.entries(state.crowds))
        for (const [why, count] of counts) tell(count, { listener, why });
    },
  });
  addGauge(registry, {
    name: 'picket_audit_hosts_held_back',
    help: 'Hosts that have sent more records than they may and keep the others for now.',
    read: (tell) => tell(state.budget.heldBack.length),
  });
  addCounter(registry, {
    name: 'picket_audit_batches_held_back_total',
    help: 'Batches of records that hosts were told to keep for now, by what there was too much of.',
    labels: ['why'],
    read: (tell) => {
      for (const [why, count] of Object.entries(state.budget.refused)) tell(count, { why });
    },
  });
  addGauge(registry, {
    name: 'picket_data_disk_free_bytes',
    help: 'Room on the disk of data_dir.',
    read: (tell) => {
      const space = findDiskSpace(state.dataDirectory);
      if (space !== undefined) tell(space.freeBytes);
    },
  });
}

function endsOf(authority: ServerState['authority']): readonly (readonly [string, number])[] {
  const endOf = (der: Uint8Array): number => parseX509Certificate(der).notAfterMs;
  return [
    ['root', Math.min(...authority.bundle.current.x509Authorities.map(endOf))],
    ['intermediate', authority.intermediateNotAfterMs],
    ['policy', endOf(authority.policyCertificate)],
  ];
}
