import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';

/** Why a body does not fit its request: it must be as long as that says (RFC 9113 8.1.1). */
export const LONGER = 'its body is longer than its content-length';
export const SHORTER = 'its body is shorter than its content-length';

/** How long the body is that a request announces (RFC 9110 8.6), in bytes; undefined where it does not say. */
export function findBodyBytes({ headers }: DecisionHttpRequest): number | undefined {
  const announced = headers['content-length'];
  return announced === undefined ? undefined : Number(announced);
}
