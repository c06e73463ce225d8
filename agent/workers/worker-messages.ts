import { z } from 'zod';
import {
  accessRecord,
  auditBatch,
  MAX_AUDIT_FRAMES_BYTES,
  type AuditAnswer,
} from '../../shared/protocol/audit.ts';
import type { PolicyStatement } from '../../shared/protocol/policy-statement.ts';
import type { Problem } from '../../shared/protocol/problem.ts';
import { counter, ipAddress, port, spiffeId } from '../../shared/protocol/wire-values.ts';
import type { Cidr } from '../capture/cidr.ts';
import type { AgentConfig } from '../config/config.ts';
import type { DataPathConfig } from '../composition/data-path.ts';
import type { DeclaredNamespace } from '../namespaces/namespace-source.ts';
import { DISTANCES } from '../directory/service-index.ts';
import type { KnowledgeChange } from './knowledge.ts';

/**
 * What the agent and its workers say to each other, as JSON on a socket pair that no one else holds. The agent believes nothing of a worker that has not the form below: a worker
 * speaks with the network.
 */

/** The settings that a worker has: nothing of how the host proves itself. */
export interface WorkerConfig extends Omit<DataPathConfig, 'networks'> {
  readonly networks: readonly (readonly [string, readonly Cidr[]])[];
  readonly issuers: AgentConfig['issuers'];
  readonly traces: AgentConfig['traces'];
  readonly capture: Pick<AgentConfig['capture'], 'mark' | 'transparentId' | 'choice' | 'namespaces'>;
  /** Its own lane of the spool, and where it writes instead while another agent has the lane. */
  readonly audit: AgentConfig['audit'] & { readonly asideFolder: string };
  readonly logLevel: AgentConfig['logLevel'];
}

/** A policy that the agent has verified and tried. */
export interface PolicyToRun {
  readonly statement: PolicyStatement;
  /** Base64. */
  readonly artifact: string;
}

/** The first message to a worker, which starts when it has it. */
export interface Beginning {
  readonly kind: 'begin';
  /** From 0. */
  readonly worker: number;
  /** The process that started it. */
  readonly agentPid: number;
  readonly config: WorkerConfig;
  /** What its descriptors from 3 on are, as `ListeningSockets` names them; behind them is the one by which it gets others. */
  readonly sockets: readonly string[];
  /** From `NOTHING_KNOWN`. */
  readonly knowledge: KnowledgeChange | null;
  readonly policy: PolicyToRun | null;
  /** Whether another agent has the lanes of the spool. */
  readonly isAside: boolean;
}

export type ToWorker =
  | Beginning
  /** All that is needed with it is prepared: it is to take connections. */
  | { readonly kind: 'listen' }
  | { readonly kind: 'know'; readonly change: KnowledgeChange }
  | { readonly kind: 'policy'; readonly policy: PolicyToRun | null }
  /** It is to say how it stands. */
  | { readonly kind: 'report'; readonly id: number }
  /** What the server answered to a batch. */
  | { readonly kind: 'shipped'; readonly id: number; readonly answer: AuditAnswer }
  | { readonly kind: 'not_shipped'; readonly id: number; readonly problem: Problem }
  /** It is to write its records somewhere else than in its lane, or there again. */
  | { readonly kind: 'move_spool'; readonly id: number; readonly isAside: boolean }
  /** It is to take nothing more, and to say when nothing is open any more. */
  | { readonly kind: 'drain'; readonly withinMs: number }
  /** It is to serve this namespace of the host as well, once it takes connections; whose descriptors it finds: one open on it, and the listening sockets in it. */
  | { readonly kind: 'namespace'; readonly cookie: string; readonly declared: DeclaredNamespace }
  | { readonly kind: 'namespace_gone'; readonly cookie: string }
  /** The addresses to which the host's routes lead, with the cookie of the namespace of each: all of them. */
  | { readonly kind: 'routes'; readonly routed: readonly (readonly [address: string, cookie: string])[] }
  /** It is to end as the agent ends. */
  | { readonly kind: 'stop' };

const MAX_SERVICES = 10_000;
const MAX_METRICS = 256;
const MAX_SERIES = 65_536;
const MAX_DENIALS = 1000;
/** Of 64 bits, in decimal. */
const MAX_COOKIE = 20;
export const MAX_WHY = 1024;

const metric = z.object({
  name: z.string().max(128),
  help: z.string().max(1024),
  type: z.string().max(32),
  aggregator: z.string().max(32),
  values: z
    .array(
      z.object({
        value: z.number(),
        labels: z.record(z.string().max(64), z.union([z.string().max(2048), z.number()])),
        metricName: z.string().max(160).optional(),
      }),
    )
    .max(MAX_SERIES),
});

/** A service in several places as a worker sees it. */
const serviceStatus = z.object({
  name: z.string().max(63),
  spiffeId,
  members: z
    .array(
      z.object({
        address: ipAddress,
        port,
        locality: z.string().max(127).exactOptional(),
        distance: z.enum(DISTANCES),
        connections: counter,
        ejectedMs: z.number().min(0),
        lastFailure: z.string().max(2048).exactOptional(),
      }),
    )
    .max(MAX_SERIES),
});

/** How a worker stands. */
const workerReport = z.object({
  connections: counter,
  services: z.array(serviceStatus).max(MAX_SERVICES),
  /** Connections that were turned away since it started, by why. */
  turnedAway: z.object({ unproven: counter, idle: counter, full: counter }),
  /** Connections that were refused for want of file descriptors since it started. */
  descriptorsRefused: counter,
  descriptorsOpen: counter,
  residentBytes: counter,
  cpuSeconds: z.number().min(0),
  /** Of the policy in force; 0: none. */
  policySequence: counter,
  spool: z.object({
    epoch: z.string().max(64),
    lastSequence: counter,
    depth: counter,
    bytes: counter,
    refused: counter,
    refusing: z.enum(['spool_full', 'disk_full', 'spool_failed', 'record_too_long']).exactOptional(),
    isHeldBack: z.boolean(),
  }),
  /** New since the last report. */
  denials: z
    .array(
      z.object({
        record: accessRecord,
        isTold: z.boolean(),
        uid: z.number().int().nullable(),
        pid: z.number().int().nullable(),
      }),
    )
    .max(MAX_DENIALS),
  metrics: z.array(metric).max(MAX_METRICS),
});

/** The frames are base64; what is in them, the server judges. */
const framedBatch = auditBatch
  .omit({ records: true })
  .extend({ frames: z.string().max(Math.ceil(MAX_AUDIT_FRAMES_BYTES / 3) * 4) });

export const fromWorker = z.discriminatedUnion('kind', [
  /** All is there that can fail: its lane, policy, users' keys. It waits for `listen`. */
  z.object({ kind: z.literal('prepared') }),
  /** It takes connections. */
  z.object({ kind: z.literal('ready') }),
  /** Where its records go from now on; not where it was told to, if it could not. */
  z.object({ kind: z.literal('spool_moved'), id: counter, isAside: z.boolean() }),
  /** It cannot serve a namespace that it was given; nothing of it is left there. */
  z.object({
    kind: z.literal('namespace_failed'),
    cookie: z.string().max(MAX_COOKIE),
    why: z.string().max(MAX_WHY),
  }),
  /** Nothing is open any more, or the time for it is over. */
  z.object({ kind: z.literal('drained') }),
  z.object({ kind: z.literal('report'), id: counter, report: workerReport }),
  /** Records to be sent to the server. */
  z.object({ kind: z.literal('ship'), id: counter, batch: framedBatch }),
]);

export type FromWorker = z.output<typeof fromWorker>;
export type WorkerReport = z.output<typeof workerReport>;
export type WorkerMetric = z.output<typeof metric>;
