import { z } from 'zod';
import { PicketError } from '../../../../shared/errors/errors.ts';
import { createdToken, newToken, tokenPage } from '../../../../shared/protocol/operator.ts';
import { sha256Hex } from '../../../../shared/protocol/wire-values.ts';
import { agentId } from '../../../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../../../shared/spiffe/trust-domain.ts';
import type { JoinTokens } from '../../../agents/join-tokens.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';

const TAG = 'tokens';

/** Join tokens: each lets one host in, once. */
export function tokenRoutes(options: {
  readonly tokens: JoinTokens;
  readonly trustDomain: TrustDomain;
  /** SHA-256 of the root's public key, which the host pins. */
  readonly rootKeySha256: () => string;
}): readonly Route<OperatorCaller>[] {
  const { tokens, trustDomain, rootKeySha256 } = options;
  return [
    defineOperatorRoute({
      method: 'POST',
      path: '/tokens',
      action: 'token.create',
      tag: TAG,
      summary: 'Make a join token for a host; it is shown once',
      body: jsonBody(newToken),
      answer: jsonAnswer(createdToken, { status: 201 }),
      subject: ({ body }) => body.name,
      logged: ({ body }) => ({ ...body }),
      handle: async ({ body }, { caller }) => {
        const { token, kept } = await tokens.create({ ...body, createdBy: caller.actor });
        return {
          token,
          agentId: agentId(trustDomain, { attestationType: 'join_token', name: kept.name }),
          expiresAt: kept.expiresAt.toISOString(),
          rootKeySha256: rootKeySha256(),
        };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: '/tokens',
      action: 'token.list',
      tag: TAG,
      summary: 'Tokens that have not expired, used or not',
      answer: jsonAnswer(tokenPage),
      handle: async () => {
        const kept = await tokens.list();
        const items = kept.map(({ tokenHash, name, expiresAt, usedAt, createdBy }) => ({
          tokenHash,
          name,
          expiresAt: expiresAt.toISOString(),
          usedAt: usedAt?.toISOString() ?? null,
          createdBy,
        }));
        return { items, next: null };
      },
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: '/tokens/:tokenHash',
      action: 'token.delete',
      tag: TAG,
      summary: 'Withdraw a token that was not used',
      params: z.object({ tokenHash: sha256Hex }),
      answer: emptyAnswer('Withdrawn'),
      handle: async ({ params: { tokenHash } }) => {
        if (await tokens.revoke(tokenHash)) return;
        throw new PicketError('not_found', 'token_unknown', 'There is no unused token of that hash');
      },
    }),
  ];
}
