import { z } from 'zod';
import { accessRecord } from '../../shared/protocol/audit.ts';
import { CAPTURE_BACKENDS } from '../capture/capture.ts';
import { HOLDER_SEARCHES } from '../workload-attestation/holder-finder.ts';
import { counter, port, spiffeId, timestamp, trustDomain } from '../../shared/protocol/wire-values.ts';

/** What the agent answers on its admin socket, and what the command line reads there. */

const life = z.object({ notBefore: timestamp, notAfter: timestamp });

/** GET /status: how the agent stands. For root. */
export const statusAnswer = z.object({
  version: z.string(),
  startedAt: timestamp,
  trustDomain,
  /** Undefined when it does all its work; otherwise one sentence on what is missing. */
  missing: z.string().optional(),
  /** The agent's own SVID; null before the host has attested. */
  agent: life.extend({ spiffeId }).nullable(),
  /** What it may serve to workloads. */
  identities: z.array(life.extend({ spiffeId, entryId: z.string() })),
  server: z.object({
    isConnected: z.boolean(),
    /** When it was last heard; absent: never since the agent started. */
    lastHeardAt: timestamp.optional(),
    /** What goes wrong now with attestation, renewal or the connection. */
    failure: z.string().optional(),
    /** Why the server turns this host away, until it takes it again. */
    refusal: z.string().optional(),
    /** How far the host's clock is ahead of the server's, in milliseconds; negative: behind. */
    clockSkewMs: z.number().optional(),
    /** Whether that is too far for certificates to be taken. */
    isClockSkewed: z.boolean(),
  }),
  policy: z.object({ version: counter, sequence: counter }).nullable(),
  capture: z.object({
    mode: z.enum([...CAPTURE_BACKENDS, 'off']),
    /** Whether the rules in the kernel are the agent's. */
    isIntact: z.boolean(),
    /** How often somebody else's change was undone since start. */
    repairs: counter,
    /** Whether changes are heard of at once; otherwise they are found within five seconds. */
    isWatched: z.boolean(),
    /** Whether somebody takes the rules away again and again. */
    isContested: z.boolean(),
    /** Who made the change that was undone last. */
    changedBy: z.string().optional(),
    /** Ports of registered listeners of this host, captured on loopback too. */
    localPorts: z.array(port),
  }),
  /** Services of this host that are in audit mode: what the policy denies to them passes. */
  auditedServices: z.array(spiffeId),
  audit: z.object({
    /** Records that the server does not have yet. */
    depth: counter,
    bytes: counter,
    /** Records that could not be kept since start: their requests were refused. */
    refused: counter,
    /** Why the newest record could not be kept; absent when it was. */
    refusing: z.enum(['spool_full', 'disk_full', 'spool_failed', 'record_too_long']).optional(),
  }),
  /** How the processes behind sockets are found: by a program in the kernel, or by reading /proc, which takes some 30 times as long. */
  holderSearch: z.enum(HOLDER_SEARCHES).nullable(),
  workloadApi: z.object({ connections: counter, streams: counter }),
  quarantine: z.object({
    /** In the whole mesh. */
    inForce: counter,
    isThisHost: z.boolean(),
    /** Of this host, that are held. */
    workloads: z.array(spiffeId),
  }),
  /** Connections that pass through the agent now, and how many may. */
  connections: counter,
  maxConnections: counter,
  /** Connections of other hosts that were turned away since start because places ran short. */
  turnedAway: z.object({ count: counter, lastAt: timestamp.optional() }),
  descriptors: z.object({
    open: counter,
    /** Null: nothing limits them. */
    limit: counter.nullable(),
    /** Of the limit, what connections may not take. */
    reserved: counter,
    /** Connections that were refused for it since start. */
    refused: counter,
  }),
  /** Where state and spool are kept. */
  dataDirectory: z.string(),
  /** Room there; absent where the file system does not tell. */
  disk: z.object({ freeBytes: counter, totalBytes: counter }).optional(),
});

/** GET /why?last=: the newest denials, newest first; for a user those of his own processes, for root all. */
export const whyAnswer = z.object({
  denials: z.array(
    z.object({ record: accessRecord, uid: z.number().int().nullable(), pid: z.number().int().nullable() }),
  ),
});

/** GET /capture: the rules in the kernel as text. For root. */
export const captureAnswer = z.object({ rules: z.string() });

/** The most denials that are told at once. */
export const MAX_LAST = 1000;

export type StatusAnswer = z.output<typeof statusAnswer>;
export type WhyAnswer = z.output<typeof whyAnswer>;
