import type { OperatorRole } from '../../shared/protocol/operator.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';

/** An agent that attested: its certificate was verified for this request, and its node is known and not banned. */
export interface AgentCaller {
  readonly kind: 'agent';
  /** The agent's SPIFFE ID, which is the node's id. */
  readonly actor: SpiffeId;
  readonly certSerial: string;
}

/** A host that is about to attest: nothing is known of it. */
export interface UnprovenCaller {
  readonly kind: 'unproven';
  readonly actor: 'unproven';
}

/** An operator with a client certificate of ours that is not revoked. */
export interface RemoteOperator {
  readonly kind: 'operator';
  readonly actor: SpiffeId;
  readonly name: string;
  readonly roles: readonly OperatorRole[];
}

/** A process on the server's own unix socket, by the uid that the kernel vouches for. uid 0 may do everything. */
export interface LocalOperator {
  readonly kind: 'local';
  /** `local:uid:<uid>` */
  readonly actor: string;
  readonly uid: number;
}

export type OperatorCaller = RemoteOperator | LocalOperator;
export type Caller = AgentCaller | UnprovenCaller | OperatorCaller;
