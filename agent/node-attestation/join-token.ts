import { PicketError } from '../../shared/errors/errors.ts';
import type { ChallengeResponse } from '../../shared/protocol/attestation.ts';
import type { NodeProver } from './node-prover.ts';

/** Proves the host by a token that an operator made for it. The token is used up by the first success, so it serves once. */
export class JoinTokenProver implements NodeProver {
  readonly canReattest = false;
  readonly #token: string;

  constructor(token: string) {
    this.#token = token;
  }

  payload(): Promise<{ readonly type: 'join_token'; readonly token: string }> {
    return Promise.resolve({ type: 'join_token', token: this.#token });
  }

  respond(): Promise<ChallengeResponse['payload']> {
    return Promise.reject(
      new PicketError(
        'failed_precondition',
        'challenge_unexpected',
        'The server challenges a join token: it should not',
      ),
    );
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
