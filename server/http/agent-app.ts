import type { Hono } from 'hono';
import type { WireBundle } from '../../shared/protocol/attestation.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { ConcurrencyLimit } from '../../shared/runtime/concurrency-limit.ts';
import type { AgentCertificates } from '../agents/agent-certificates.ts';
import type { NodeAttestation } from '../node-attestation/node-attestation.ts';
import { authenticateAgent, type RequireAgent, type Verification } from './authenticate.ts';
import { buildApp } from './build-app.ts';
import { openGate } from './gate.ts';
import { RateLimit, type HttpLimits } from './limits.ts';
import { mountRoutes, type HttpEnvironment } from './mount-routes.ts';
import { attestationRoutes } from './routes/agents/attestation.ts';
import { certificateRoutes } from './routes/agents/certificates.ts';
import { auditRoutes, type AuditRouteOptions } from './routes/agents/audit.ts';
import { stateRoutes, type StateRouteOptions } from './routes/agents/state.ts';

export interface AgentAppOptions extends StateRouteOptions, AuditRouteOptions {
  readonly attestation: NodeAttestation;
  readonly certificates: AgentCertificates;
  readonly verification: Verification;
  readonly requireAgent: RequireAgent;
  readonly bundle: () => WireBundle;
  readonly limits: HttpLimits;
  readonly clock: Clock;
  readonly log: Log;
  /** Aborted when the server drains. */
  readonly draining: AbortSignal;
}

/** What is served on 8443: attestation for anybody, everything else for agents in standing. */
export function buildAgentApp(options: AgentAppOptions): Hono<HttpEnvironment> {
  const { limits, clock, log, draining, bundle } = options;
  const app = buildApp(log);
  const common = { limits, clock, log, draining };
  const attempts = new RateLimit({ burst: limits.attestBurst, perSecond: limits.attestPerSecond, clock });
  mountRoutes(app, attestationRoutes({ attestation: options.attestation, bundle, attempts }), {
    ...common,
    gate: openGate(() => ({ kind: 'unproven', actor: 'unproven' })),
    concurrency: new ConcurrencyLimit(limits.maxRequestsPerPeer),
  });
  mountRoutes(
    app,
    [
      ...certificateRoutes({ certificates: options.certificates, bundle }),
      ...stateRoutes(options),
      ...auditRoutes(options),
    ],
    {
      ...common,
      gate: openGate(
        async (connection) =>
          await authenticateAgent(connection, {
            ...options.verification,
            requireAgent: options.requireAgent,
          }),
      ),
      concurrency: new ConcurrencyLimit(limits.maxRequestsPerPeer),
    },
  );
  return app;
}
