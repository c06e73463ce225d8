import { z } from 'zod';
import { PicketError } from '../../../../shared/errors/errors.ts';
import { tpmHost, tpmHostDecision, tpmHostPage } from '../../../../shared/protocol/operator.ts';
import { sha256Hex } from '../../../../shared/protocol/wire-values.ts';
import { agentId } from '../../../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../../../shared/spiffe/trust-domain.ts';
import type { TpmHost, TpmHosts } from '../../../agents/tpm-hosts.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';

const TAG = 'tpm-hosts';
const params = z.object({ ekHash: sha256Hex });

/** Hosts that are known by their TPMs: who may attest, and who waits for an operator. */
export function tpmHostRoutes(options: {
  readonly hosts: TpmHosts;
  readonly trustDomain: TrustDomain;
}): readonly Route<OperatorCaller>[] {
  const { hosts, trustDomain } = options;
  const shown = (host: TpmHost): z.input<typeof tpmHost> => ({
    ekHash: host.ekHash,
    state: host.state,
    name: host.name,
    expectedPcrs: copyPcrs(host.expectedPcrs),
    addresses: [...host.addresses],
    agentId: agentId(trustDomain, {
      attestationType: 'tpm',
      name: host.name === '' ? host.ekHash : host.name,
    }),
    hasTrustedCertificate: host.hasTrustedCertificate,
    createdAt: host.createdAt.toISOString(),
  });
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/tpm-hosts',
      action: 'tpm-host.list',
      tag: TAG,
      summary: 'TPMs that were approved, denied, or wait for an operator',
      query: z.object({ state: z.enum(['pending', 'approved', 'denied']).optional() }),
      answer: jsonAnswer(tpmHostPage),
      handle: async ({ query }) => ({ items: (await hosts.list(query.state)).map(shown), next: null }),
    }),
    defineOperatorRoute({
      method: 'PUT',
      path: '/tpm-hosts/:ekHash',
      action: 'tpm-host.decide',
      tag: TAG,
      summary: 'Let a TPM attest, or refuse it',
      params,
      body: jsonBody(tpmHostDecision),
      answer: jsonAnswer(tpmHost),
      logged: ({ body }) => ({ ...body }),
      handle: async ({ params: { ekHash }, body }, { caller }) => {
        const { state, ...decision } = body;
        const decided = { ekHash, decidedBy: caller.actor };
        return shown(
          state === 'denied' ? await hosts.deny(decided) : await hosts.approve({ ...decided, ...decision }),
        );
      },
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: '/tpm-hosts/:ekHash',
      action: 'tpm-host.delete',
      tag: TAG,
      summary: 'Forget a TPM: it is a stranger again',
      params,
      answer: emptyAnswer('Forgotten'),
      handle: async ({ params: { ekHash } }) => {
        if (await hosts.remove(ekHash)) return;
        throw new PicketError('not_found', 'tpm_host_unknown', 'There is no TPM of that hash');
      },
    }),
  ];
}

function copyPcrs(pcrs: TpmHost['expectedPcrs']): Record<string, string[]> {
  return Object.fromEntries(Object.entries(pcrs).map(([pcr, values]) => [pcr, [...values]]));
}
