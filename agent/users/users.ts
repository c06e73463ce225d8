import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { DecisionUser } from '../../shared/policy/circumstances.ts';

/** Who stands behind requests. */
export interface Users {
  /**
   * The user of a request (null: a connection, which has none), found at once and without asking anybody. The same token gives the same object until it ends or
   * its key goes. Never throws: whoever is not verified is not there, with a reason.
   */
  identify(http: DecisionHttpRequest | null): DecisionUser;
}

/** How the keys of an issuer stand. */
export interface IssuerStatus {
  readonly name: string;
  readonly keys: number;
  /** When its keys were read last; undefined: never since start. */
  readonly readAtMs: number | undefined;
  /** Why they could not be read the last time; undefined when they could. */
  readonly failure: string | undefined;
}
