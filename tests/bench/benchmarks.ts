import type { Benchmark } from './bench-run.ts';
import { ALL_CORES, PAIR_CORE } from './lab.ts';
import { cut } from './tables/cut.ts';
import { decision } from './tables/decision.ts';
import { firstStart } from './tables/first-start.ts';
import { http2 } from './tables/http2.ts';
import { issuing } from './tables/issuing.ts';
import { keepAlive } from './tables/keep-alive.ts';
import { latency } from './tables/latency.ts';
import { memory } from './tables/memory.ts';
import { newConnections } from './tables/new-connections.ts';
import { propagation } from './tables/propagation.ts';
import { throughput } from './tables/throughput.ts';

/** All tables, in the order in which they are measured. */
export const BENCHMARKS: readonly Benchmark[] = [
  memory,
  keepAlive({
    name: 'tcp',
    title: 'TCP pair, one core',
    mode: 'tcp',
    cores: PAIR_CORE,
    floors: { rate: 1.1, cpu: 0.9 },
  }),
  keepAlive({
    name: 'tcp-two-cores',
    title: 'TCP pair, two cores',
    mode: 'tcp',
    cores: ALL_CORES,
    floors: { rate: 1.05 },
  }),
  keepAlive({
    name: 'http',
    title: 'HTTP/1.1 pair with a decision for each request, one core',
    mode: 'http',
    cores: PAIR_CORE,
    floors: { rate: 1.15, cpu: 0.85 },
  }),
  http2,
  throughput,
  latency,
  newConnections({
    name: 'connections',
    title: 'New application connections with one short request, one core',
    sessions: 'resumed',
    variants: ['pooled', 'captured', 'steered'],
    floors: { cpu: 0.15 },
  }),
  newConnections({
    name: 'tls-resumed',
    title: 'New TLS connections, resumed, one core',
    sessions: 'resumed',
    variants: ['resumed'],
    floors: { rate: 2.2 },
  }),
  newConnections({
    name: 'tls-full',
    title: 'New TLS connections with a full handshake, one core',
    sessions: 'full',
    variants: ['full'],
    floors: { rate: 2 },
  }),
  decision,
  issuing,
  propagation,
  cut,
  firstStart,
];
