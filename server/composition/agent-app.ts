import type { WireBundle } from '../../shared/protocol/attestation.ts';
import { AgentCertificates } from '../agents/agent-certificates.ts';
import type { RecordBudget } from '../audit/record-budget.ts';
import { RecordIntake } from '../audit/record-intake.ts';
import type { ClockWatch } from '../health/clock-watch.ts';
import { buildAgentApp } from '../http/agent-app.ts';
import { DEFAULT_LIMITS } from '../http/limits.ts';
import type { OperatorCapabilities } from '../http/operator-app.ts';
import { NodeAttestation } from '../node-attestation/node-attestation.ts';
import type { NodeAttestor } from '../node-attestation/node-attestor.ts';
import { AttestationSessions } from '../node-attestation/session.ts';
import type { SyncSource } from '../sync/sync.ts';
import { clock, secureRandom, type Start } from './start.ts';

/** What agents are served from. */
export interface AgentParts {
  readonly capabilities: OperatorCapabilities;
  readonly attestors: readonly NodeAttestor[];
  readonly sync: SyncSource;
  readonly bundle: WireBundle;
  readonly clockWatch: ClockWatch;
  readonly budget: RecordBudget;
}

/** The API of agents; `draining` ends its streams. */
export function buildAgents(
  { config, log }: Start,
  parts: AgentParts,
  draining: AbortSignal,
): ReturnType<typeof buildAgentApp> {
  const { capabilities, attestors, sync, clockWatch, budget } = parts;
  const { authority, nodes, issued, registration, policies, accessLog, quarantines } = capabilities;
  const bundle = (): WireBundle => parts.bundle;
  const { trustDomain, agentTtlSeconds } = config;
  const attestation = new NodeAttestation({
    attestors,
    sessions: new AttestationSessions({ clock, random: secureRandom }),
    authority,
    nodes,
    issued,
    bundle,
    trustDomain,
    agentTtlSeconds,
    log,
  });
  return buildAgentApp({
    attestation,
    certificates: new AgentCertificates({
      authority,
      nodes,
      registration,
      issued,
      quarantines,
      agentTtlSeconds,
    }),
    verification: { bundle: authority.bundle, clock },
    requireAgent: async (nodeId, serial) => void (await nodes.authenticate(nodeId, serial)),
    sync,
    policies,
    intake: new RecordIntake({ accessLog, budget }),
    nodes,
    compareClocks: (nodeId, aheadMs) => clockWatch.compare(nodeId, aheadMs),
    bundle,
    limits: DEFAULT_LIMITS,
    clock,
    log,
    draining,
  });
}
