import { z } from 'zod';
import { workloadCertificates } from '../../../../shared/protocol/operator.ts';
import { spiffeId } from '../../../../shared/protocol/wire-values.ts';
import type { IssuedSvids } from '../../../agents/issued-svids.ts';
import { jsonAnswer } from '../../answer.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';

/** Workloads, by their identity. */
export function workloadRoutes(issued: IssuedSvids): readonly Route<OperatorCaller>[] {
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/workloads/:spiffe_id/certificate',
      action: 'workload.read',
      tag: 'workloads',
      summary:
        'Certificates of an identity that are valid now (its SPIFFE ID percent-encoded); one identity lives on many hosts',
      params: z.object({ spiffe_id: spiffeId }),
      answer: jsonAnswer(workloadCertificates),
      handle: async ({ params }) => {
        const records = await issued.listCurrent(params.spiffe_id);
        return {
          spiffeId: params.spiffe_id,
          certificates: records.map((record) => ({
            serial: record.serial,
            nodeId: record.nodeId,
            entryId: record.entryId,
            notBefore: record.notBefore.toISOString(),
            notAfter: record.notAfter.toISOString(),
            chainPem: record.chainPem,
          })),
        };
      },
    }),
  ];
}
