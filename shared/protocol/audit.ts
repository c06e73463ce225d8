import { z } from 'zod';
import { MAX_RULE_CHARACTERS, MAX_RULES } from '../policy/verdict.ts';
import { counter, sha256Hex, spiffeId, timestamp } from './wire-values.ts';

/**
 * Access records, from the agent's spool to the server, mTLS with the agent's SVID: POST /v1/audit/frames, the frames of the spool as they stand there; or, by agents of before,
 * POST /v1/audit/batches as JSON.
 * A record is known by (node, epoch, sequence) and stored once, however often it is sent. `hash` chains the records of an epoch:
 * SHA-256 over the previous hash (32 bytes; zeros at the start) and the exact JSON text of the record.
 */

/** The most records in a batch and the longest record in bytes of JSON. */
export const MAX_AUDIT_BATCH = 1000;
export const MAX_AUDIT_RECORD_BYTES = 16 * 1024;
/** The most bytes of frames in a batch. */
export const MAX_AUDIT_FRAMES_BYTES = 1024 * 1024;

export const decisionOutcome = z.enum(['allow', 'deny']);

/** What was decided. Field names are those of the audit query API and of the source texts. */
export const accessRecord = z.object({
  decision_id: z.string().max(80),
  ts: timestamp,
  /** Of the request's trace, where the host traces. */
  trace_id: z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .optional(),
  /** Which side decided: `inbound` is the authority; `outbound` is the caller's host (egress, unreachable or untrusted target, denial told by the other side). */
  direction: z.enum(['inbound', 'outbound']),
  caller_spiffe_id: spiffeId.nullable(),
  target_spiffe_id: spiffeId.nullable(),
  source: z.string().max(64),
  destination: z.string().max(64),
  /** On the calling side, where the destination is a service in several places: the member that was asked last. */
  member: z.string().max(64).optional(),
  protocol: z.enum(['http', 'tls', 'tcp', 'udp']),
  /** Outside of the mesh: the DNS name that the client asked for, whether it led there or not. */
  server_name: z.string().max(255).optional(),
  /** Outside of the mesh: the gateway that takes it out. The gateway's own record is `inbound` and names itself. */
  via: spiffeId.optional(),
  /** Outside of the mesh: its TLS was ended by the host that recorded it, and what is within was seen there. */
  inspected: z.literal(true).optional(),
  method: z.string().max(32).nullable(),
  path: z.string().max(8192).nullable(),
  decision: decisionOutcome,
  /** The user whose token came with the request and was verified, `ISSUER:SUBJECT`; absent where nobody is known, or the policy does not ask. */
  user_id: z.string().max(600).optional(),
  /** It passed in audit mode: enforced, it would have been denied for `reason`. Absent: it would not. */
  would_deny: z.literal(true).optional(),
  /** Rules in audit that would have denied it, as the policy names them. */
  rules: z.array(z.string().max(MAX_RULE_CHARACTERS)).max(MAX_RULES).optional(),
  /** Why, from the closed list of decision reasons (shared/policy/decision.ts). */
  reason: z.string().max(64),
  /** One sentence for people. */
  message: z.string().max(1024),
  policy_version: counter.nullable(),
  /** How long the decision took; 0 where the very same was asked just before, and the answer stood. */
  latency_us: z.number().min(0),
});

/**
 * Records that a server acknowledged, lacks since it was restored from a backup, and the agent holds no more: those behind `after`, the last that the server
 * has, up to the first of the batch. `hash` is that of the last of them, which the batch continues.
 */
export const auditGap = z.object({ after: counter, hash: sha256Hex });

export const auditBatch = z.object({
  /** Random for each spool, so that a spool made anew never collides with the old one. */
  epoch: z.string().regex(/^[0-9a-f]{32}$/),
  /** Only after the server answered with a sequence that the agent can no longer go on from. */
  gap: auditGap.optional(),
  records: z
    .array(z.object({ sequence: counter, hash: sha256Hex, record: z.string().max(MAX_AUDIT_RECORD_BYTES) }))
    .min(1)
    .max(MAX_AUDIT_BATCH),
});

/** What the frames of a batch are of: the query of POST /v1/audit/frames. A gap is told of by both of its parts. */
export const auditFramesQuery = z
  .object({
    epoch: auditBatch.shape.epoch,
    gap_after: z.coerce.number().pipe(counter).optional(),
    gap_hash: sha256Hex.optional(),
  })
  .refine(
    ({ gap_after, gap_hash }) => (gap_after === undefined) === (gap_hash === undefined),
    'tells of a gap by one half',
  );

/** A batch whose records stand one behind the other in frames (audit-frame.ts). */
export interface FramedBatch extends Omit<AuditBatch, 'records'> {
  readonly frames: Uint8Array;
}

/** The server has every record of the epoch up to and including `sequence`. */
export const auditAnswer = z.object({ epoch: z.string(), sequence: counter });

export type AccessRecord = z.output<typeof accessRecord>;
export type AuditBatch = z.output<typeof auditBatch>;
export type AuditAnswer = z.output<typeof auditAnswer>;
