import { z } from 'zod';
import { createdOperator, newOperator, operatorPage, paging } from '../../../../shared/protocol/operator.ts';
import { operatorId } from '../../../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../../../shared/spiffe/trust-domain.ts';
import { encodePem } from '../../../../shared/wire/pem.ts';
import type { CertificateAuthority } from '../../../ca/ca.ts';
import { readCsr } from '../../../ca/csr.ts';
import type { Operators } from '../../../operators/operators.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';
import { withoutUndefined } from './without-undefined.ts';

const TAG = 'operators';

/** Who may administer. */
export function operatorRoutes(options: {
  readonly operators: Operators;
  readonly authority: CertificateAuthority;
  readonly trustDomain: TrustDomain;
}): readonly Route<OperatorCaller>[] {
  const { operators, authority, trustDomain } = options;
  return [
    defineOperatorRoute({
      method: 'POST',
      path: '/operators',
      action: 'operator.create',
      tag: TAG,
      summary: 'Certify an operator’s key; the private half never comes here',
      body: jsonBody(newOperator),
      answer: jsonAnswer(createdOperator, { status: 201 }),
      subject: ({ body }) => body.name,
      logged: ({ body }) => ({ roles: body.roles, ttlSeconds: body.ttlSeconds }),
      handle: async ({ body }) => {
        const spiffeId = operatorId(trustDomain, body.name);
        const { publicKeySpki } = readCsr(Buffer.from(body.csr, 'base64'));
        const certificate = await authority.issue({
          spiffeId,
          publicKeySpki,
          ttlSeconds: body.ttlSeconds,
          dnsNames: [],
        });
        await operators.create({ name: body.name, roles: body.roles, certificate });
        return {
          name: body.name,
          spiffeId,
          notAfter: new Date(certificate.notAfterMs).toISOString(),
          chainPem: toPem(certificate.chain),
          bundlePem: toPem(authority.bundle.current.x509Authorities),
        };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: '/operators',
      action: 'operator.list',
      tag: TAG,
      summary: 'Operators and their roles, the revoked ones too',
      query: paging,
      answer: jsonAnswer(operatorPage),
      handle: async ({ query }) => {
        const page = await operators.list(withoutUndefined(query));
        const items = page.operators.map(({ name, roles, notAfter, isRevoked, createdAt }) => ({
          name,
          roles: [...roles],
          notAfter: notAfter.toISOString(),
          isRevoked,
          createdAt: createdAt.toISOString(),
        }));
        return { items, next: page.nextCursor ?? null };
      },
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: '/operators/:name',
      action: 'operator.revoke',
      tag: TAG,
      summary: 'Refuse an operator from now on',
      params: z.object({ name: z.string().max(64) }),
      answer: emptyAnswer('Revoked'),
      handle: async ({ params: { name } }) => void (await operators.revoke(name)),
    }),
  ];
}

function toPem(certificates: readonly Uint8Array[]): string {
  return certificates.map((der) => encodePem('CERTIFICATE', der)).join('');
}
