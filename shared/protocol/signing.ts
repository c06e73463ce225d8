import { z } from 'zod';
import { csr, issuedSvid } from './attestation.ts';
import { problem } from './problem.ts';

/** The most SVIDs that one call asks for. */
export const MAX_SIGNING_BATCH = 200;

/** POST /v1/svids, mTLS with the agent's SVID. Each entry must be one that the agent is the parent of. */
export const signRequest = z.object({
  requests: z
    .array(z.object({ entryId: z.uuid(), csr }))
    .min(1)
    .max(MAX_SIGNING_BATCH),
});

/** One answer for each request, in order; one refusal does not fail the others. */
export const signAnswer = z.object({
  results: z.array(
    z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('issued'), svid: issuedSvid }),
      z.object({ kind: z.literal('refused'), problem }),
    ]),
  ),
});

export type SignRequest = z.output<typeof signRequest>;
export type SignAnswer = z.output<typeof signAnswer>;
