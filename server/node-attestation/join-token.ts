import { PicketError } from '../../shared/errors/errors.ts';
import type { AttestRequest } from '../../shared/protocol/attestation.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import type { JoinTokens } from '../agents/join-tokens.ts';
import type { AttestationStep, NodeAttestor } from './node-attestor.ts';

type JoinTokenPayload = Extract<AttestRequest['payload'], { type: 'join_token' }>;

/**
 * Lets in whoever shows a join token, once, under the name that the operator gave it. Refuses with reason `join_token_invalid`. Selector:
 * `join_token:name:<name>`.
 */
export class JoinTokenAttestor implements NodeAttestor<JoinTokenPayload> {
  readonly type = 'join_token';
  readonly #tokens: Pick<JoinTokens, 'redeem'>;

  constructor(tokens: Pick<JoinTokens, 'redeem'>) {
    this.#tokens = tokens;
  }

  async begin(payload: JoinTokenPayload): Promise<AttestationStep> {
    const token = await this.#tokens.redeem(payload.token);
    if (!token)
      throw new PicketError(
        'permission_denied',
        'join_token_invalid',
        'The join token is unknown, used or expired',
      );
    const { name, addresses } = token;
    return {
      kind: 'attested',
      node: {
        name,
        selectors: [parseSelector(`join_token:name:${name}`)],
        canReattest: false,
        declaredAddresses: addresses,
      },
    };
  }
}
