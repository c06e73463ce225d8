import { renewAnswer, renewRequest, type WireBundle } from '../../../../shared/protocol/attestation.ts';
import { signAnswer, signRequest } from '../../../../shared/protocol/signing.ts';
import type { AgentCertificates } from '../../../agents/agent-certificates.ts';
import { jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { AgentCaller } from '../../caller.ts';
import { routesFor, type Route } from '../../route.ts';

/** Two hundred requests of the usual size, with room for larger keys. */
const SIGNING_BODY_BYTES = 1024 * 1024;
const TAG = 'certificates';
const defineRoute = routesFor<AgentCaller>();

/** Certificates for agents and their workloads. */
export function certificateRoutes(options: {
  readonly certificates: AgentCertificates;
  readonly bundle: () => WireBundle;
}): readonly Route<AgentCaller>[] {
  const { certificates, bundle } = options;
  return [
    defineRoute({
      method: 'POST',
      path: '/v1/agent/renew',
      action: 'agent.renew',
      tag: TAG,
      summary: 'Renew the agent’s own certificate',
      body: jsonBody(renewRequest),
      answer: jsonAnswer(renewAnswer),
      handle: async ({ body }, { caller }) => ({
        svid: await certificates.renew({ nodeId: caller.actor, certSerial: caller.certSerial }, body.csr),
        bundle: bundle(),
      }),
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/svids',
      action: 'svid.sign',
      tag: TAG,
      summary: 'Certificates for workloads of the agent’s entries',
      body: jsonBody(signRequest, SIGNING_BODY_BYTES),
      answer: jsonAnswer(signAnswer),
      handle: async ({ body }, { caller }) => await certificates.sign(caller.actor, body),
    }),
  ];
}
