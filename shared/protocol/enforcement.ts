import { z } from 'zod';
import { ENFORCEMENT_MODES } from '../policy/enforcement.ts';
import { counter, spiffeId, timestamp } from './wire-values.ts';

/**
 * Audit mode: what the policy denies to a service passes, and is recorded as what would have been denied. Scopes are SPIFFE IDs of services, or such with
 * `/*` behind them for all below (shared/policy/enforcement.ts).
 */
export const enforcementMode = z.enum(ENFORCEMENT_MODES);

const scope = z.string().min(1).max(2050);

/** As agents are told, under the scope as key. A mode that an agent does not know is `enforce`. */
export const enforcementRecord = z.object({ scope, mode: enforcementMode.catch('enforce') });

/** GET /enforcement; PUT and DELETE /enforcement/{scope}. A scope that begins with a slash is one of the server's trust domain. */
export const enforcementScopeText = scope;
export const newEnforcement = z.object({ mode: enforcementMode });
export const enforcement = z.object({
  scope,
  mode: enforcementMode,
  setBy: z.string(),
  setAt: timestamp,
  /** Services that are registered in the scope now. None may be a mistake in the spelling. */
  services: counter,
});
export const enforcementPage = z.object({
  items: z.array(enforcement),
  next: z.string().max(4096).nullable(),
});

/** GET /enforcement/{scope}/report?since=: what enforcing would break, by what passed in audit mode since then. */
export const enforcementReportQuery = z.object({ since: timestamp.optional() });
export const enforcementReport = z.object({
  scope,
  since: timestamp,
  until: timestamp,
  /** Decisions of the called side in that time, and those of them whose caller proved nothing: they came in plaintext, from outside of the mesh. */
  decisions: counter,
  plaintext: counter,
  /** What passed and would have been denied. */
  wouldDeny: counter,
  /** By caller, service, method, path without query, reason and rules; the most frequent first. */
  items: z.array(
    z.object({
      caller: spiffeId.nullable(),
      /** Where callers without identity come from. */
      source: z.string().nullable(),
      target: spiffeId,
      /** Null for a connection that is no HTTP. */
      method: z.string().nullable(),
      path: z.string().nullable(),
      reason: z.string(),
      /** Rules in audit that would deny it; none where the service itself is in audit mode. */
      rules: z.array(z.string()),
      count: counter,
      lastAt: timestamp,
    }),
  ),
  /** Whether there are more lines than are shown, or more records than were read: then the newest 500,000 of each kind were. */
  isTruncated: z.boolean(),
});

export type EnforcementRecord = z.output<typeof enforcementRecord>;
export type EnforcementReport = z.output<typeof enforcementReport>;
