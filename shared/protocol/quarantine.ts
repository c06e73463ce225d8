import { z } from 'zod';
import { counter, ipAddress, spiffeId, timestamp } from './wire-values.ts';

/**
 * Who neither calls nor is called, whatever the policy says: one workload, everything on a node, or a segment, which is a SPIFFE ID with all that
 * stand below it (`isInSegment`). A quarantine is known by kind and subject.
 */
export const quarantineKind = z.enum(['workload', 'node', 'segment']);

/** As agents are told, under the key `<kind> <subject>`. */
export const quarantineRecord = z.object({
  kind: quarantineKind,
  /** The workload, the node's agent, or the ID that the segment begins with. */
  subject: spiffeId,
  reason: z.string().max(500),
  /** Of a node: its confirmed addresses, and the serials of certificates that it was issued and that have not ended. Empty for the others. */
  addresses: z.array(ipAddress),
  serials: z.array(z.string().regex(/^[0-9a-f]{1,40}$/, 'is not a serial in lower-case hexadecimal')),
});

/** PUT /quarantines/{kind}/{subject}. One that is in force already gets the new reason and end. */
export const newQuarantine = z.object({
  reason: z.string().trim().min(1, 'is empty: say why').max(500),
  /** When the server lifts it by itself, counted from now; never if absent. */
  ttlSeconds: z
    .number()
    .int()
    .min(1)
    .max(86_400 * 366)
    .optional(),
});

/** GET /quarantines, GET, PUT and DELETE /quarantines/{kind}/{subject}. */
export const quarantine = z.object({
  kind: quarantineKind,
  subject: spiffeId,
  reason: z.string(),
  until: timestamp.nullable(),
  createdBy: z.string(),
  createdAt: timestamp,
  /** Registered workloads that it holds now. None may be a mistake in the spelling, or somebody whose entry is gone already. */
  coveredEntries: counter,
});
export const quarantinePage = z.object({ items: z.array(quarantine), next: z.string().max(4096).nullable() });

export type QuarantineKind = z.output<typeof quarantineKind>;
export type QuarantineRecord = z.output<typeof quarantineRecord>;
