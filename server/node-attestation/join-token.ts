import { PicketError } from '../../shared/errors/errors.ts';
import type { AttestRequest } from '../../shared/protocol/attestation.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import type { JoinTokens } from '../agents/join-tokens.ts';
import type { AttestationContext, AttestationStep, NodeAttestor } from './node-attestor.ts';

type JoinTokenPayload = Extract<AttestRequest['payload'], { type: 'join_token' }>;

/**
 * Lets in whoever shows a join token, once, under the name that the operator gave it. The host that it let in may show it again with the same key while it has not
 * had its answer. Refuses with reason `join_token_invalid`. Selector: `join_token:name:<name>`.
 */
export class JoinTokenAttestor implements NodeAttestor<JoinTokenPayload> {
  readonly type = 'join_token';
  readonly #tokens: Pick<JoinTokens, 'find' | 'redeem'>;

  constructor(tokens: Pick<JoinTokens, 'find' | 'redeem'>) {
    this.#tokens = tokens;
  }

  async begin(
    payload: JoinTokenPayload,
    { csrPublicKeySpki }: Pick<AttestationContext, 'csrPublicKeySpki'>,
  ): Promise<AttestationStep> {
    const token = await this.#tokens.find(payload.token);
    if (token === undefined) throw refused();
    const { name, addresses } = token;
    return {
      kind: 'attested',
      node: {
        name,
        selectors: [parseSelector(`join_token:name:${name}`)],
        canReattest: false,
        declaredAddresses: addresses,
        redeem: async (transaction) => {
          const redeemed = await this.#tokens.redeem(transaction, payload.token, csrPublicKeySpki);
          if (redeemed === undefined) throw refused();
          return redeemed.replacedSerial;
        },
      },
    };
  }
}

function refused(): PicketError {
  return new PicketError(
    'permission_denied',
    'join_token_invalid',
    'The join token is unknown, used or expired',
  );
}
