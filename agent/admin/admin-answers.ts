import { z } from 'zod';
import { accessRecord } from '../../shared/protocol/audit.ts';
import { CAPTURE_BACKENDS } from '../capture/capture.ts';
import { DISTANCES } from '../directory/service-index.ts';
import { HOLDER_SEARCHES } from '../workload-attestation/holder-finder.ts';
import {
  counter,
  ipAddress,
  port,
  spiffeId,
  timestamp,
  trustDomain,
} from '../../shared/protocol/wire-values.ts';

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
    /** Those of them whose applications are connected from the caller's address. */
    transparentPorts: z.array(port).default([]),
    /** Those that ask for that and are refused it: excluded inbound, or the agent's own. */
    transparentLeftAlone: z.array(port).default([]),
    /** What brings their answers back; absent where there is none of them, or the agent keeps no rules. */
    returnPath: z
      .object({ isInForce: z.boolean(), repairs: counter, failure: z.string().optional() })
      .optional(),
  }),
  /** As a gateway out of the mesh: whether the agent was started as one, and the identities for which it is registered here. */
  gateway: z.object({ isEnabled: z.boolean(), identities: z.array(spiffeId) }),
  /** The authority by which TLS that leaves the mesh is inspected here; null: it is not. */
  inspection: z.object({ authority: z.string(), notAfter: timestamp }).nullable(),
  /** UDP that leaves this host, where the policy decides on it; null where it is dropped. */
  udp: z
    .object({
      isHearing: z.boolean(),
      /** Namespaces in which it is not heard of. */
      deafIn: z.array(z.string()).default([]),
      otherUsersIn: z.array(z.string()).default([]),
      flows: z.int().nonnegative(),
      maxFlows: z.int(),
    })
    .nullable(),
  /** Other network namespaces of this host that are to be captured. */
  namespaces: z.array(
    z.object({
      name: z.string(),
      /** As entries call it: `netns:name:LABEL`. */
      label: z.string(),
      /** Whether it was found in a folder. */
      isFound: z.boolean(),
      /** What it is reached at. */
      addresses: z.array(z.string()),
      /** `absent`: it is not there; `failed`: it is, and cannot be captured, so that it is closed. */
      state: z.enum(['captured', 'absent', 'failed']),
      isIntact: z.boolean(),
      repairs: counter,
      why: z.string().optional(),
    }),
  ),
  /** Of those that are found in folders, how many are closed because they are too many, by label. */
  namespacesBeyond: z.record(z.string(), counter),
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
    /** Whether the server takes fewer records of this host than there are. */
    isHeldBack: z.boolean().default(false),
  }),
  /** How the processes behind sockets are found: by a program in the kernel, or by reading /proc, which takes some 30 times as long. */
  holderSearch: z.enum(HOLDER_SEARCHES).nullable(),
  workloadApi: z.object({ connections: counter, streams: counter }),
  hbone: z.object({
    isAccepted: z.boolean(),
    /** Who of this host may be called; it is answered as the one, where there is exactly one. */
    callable: z.array(spiffeId),
    /** How many peers the configuration names, and which of them nobody can prove to be for want of a trust bundle. */
    peers: counter,
    untrusted: z.array(spiffeId),
  }),
  quarantine: z.object({
    /** In the whole mesh. */
    inForce: counter,
    isThisHost: z.boolean(),
    /** Of this host, that are held. */
    workloads: z.array(spiffeId),
  }),
  /** Whose tokens tell who the user is: how many of their keys are here, when they were read last, and why not since. */
  userIssuers: z.array(
    z.object({
      name: z.string(),
      keys: counter,
      readAt: timestamp.optional(),
      failure: z.string().optional(),
    }),
  ),
  /** Services in several places; of each the members, the nearest first. */
  services: z.array(
    z.object({
      name: z.string(),
      spiffeId,
      members: z.array(
        z.object({
          address: ipAddress,
          port,
          /** As an operator declared it; absent: nobody did. */
          locality: z.string().optional(),
          distance: z.enum(DISTANCES),
          /** Of this host, through the mesh, now. */
          connections: counter,
          /** How long it is still passed over; 0: it is not. */
          ejectedSeconds: counter,
          /** What failed last; absent once a connection came about after it. */
          lastFailure: z.string().optional(),
        }),
      ),
    }),
  ),
  /** Connections that pass through the agent now, and how many may. */
  connections: counter,
  maxConnections: counter,
  /** Connections of other hosts that were turned away since start because places ran short. */
  turnedAway: z.object({ count: counter, lastAt: timestamp.optional() }),
  /** The processes that carry the traffic; empty where the agent itself does. */
  workers: z.array(
    z.object({
      /** Null while it is started again. */
      pid: counter.nullable(),
      /** Whether it takes connections. */
      isReady: z.boolean(),
      /** How often it ended without being told to. */
      restarts: counter,
      connections: counter,
      /** Of the policy that it decides by; 0: none, so that everything is denied. */
      policySequence: counter,
    }),
  ),
  descriptors: z.object({
    open: counter,
    /** Null: nothing limits them. */
    limit: counter.nullable(),
    /** Of the limit, what connections may not take. */
    reserved: counter,
    /** Connections that were refused for it since start. */
    refused: counter,
  }),
  /** The process that this one took over from, as long as it still carries connections. */
  predecessor: z.object({ version: z.string(), connections: counter, endsAt: timestamp }).optional(),
  /** Where state and spool are kept. */
  dataDirectory: z.string(),
  /** Room there; absent where the file system does not tell. */
  disk: z.object({ freeBytes: counter, totalBytes: counter }).optional(),
});

/** GET /why?last=: the newest denials, newest first; for a user those of his own processes, for root all. */
export const whyAnswer = z.object({
  denials: z.array(
    z.object({
      record: accessRecord,
      /** Whether another host decided it, and told this one. */
      isTold: z.boolean().default(false),
      uid: z.number().int().nullable(),
      pid: z.number().int().nullable(),
    }),
  ),
});

/** POST /upgrade: the agent was replaced. For root. */
export const upgradeAnswer = z.object({
  pid: counter,
  version: z.string(),
  tookMs: counter,
  /** Of the process that was replaced. */
  connections: counter,
  /** How long they may go on. */
  drainMs: counter,
});

/** GET /capture: the rules in the kernel as text. For root. */
export const captureAnswer = z.object({ rules: z.string() });

/** The most denials that are told at once. */
export const MAX_LAST = 1000;

export type StatusAnswer = z.output<typeof statusAnswer>;
export type UpgradeAnswer = z.output<typeof upgradeAnswer>;
export type WhyAnswer = z.output<typeof whyAnswer>;
