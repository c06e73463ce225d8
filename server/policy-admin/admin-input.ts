import type { PolicyInput } from '../../shared/policy/policy-engine.ts';

/** What an operator asks of the server. */
export interface AdminRequest {
  readonly operator: {
    /** Empty for a local user, as are `spiffe_id` and `roles`. */
    readonly name: string;
    readonly spiffe_id: string;
    readonly roles: readonly string[];
    /** The uid of a user on the server's own socket; null for an operator with a certificate. */
    readonly uid: number | null;
  };
  /** `noun.verb` */
  readonly action: string;
  readonly subject: string;
  /** Validated path, query and body of the call. */
  readonly params?: unknown;
  readonly query?: unknown;
  readonly body?: unknown;
}

/** The input of the admin policy (policies/schema/admin-input.json): every field is present, whatever the call lacks. */
export function buildAdminInput(request: AdminRequest, nowMs: number): PolicyInput {
  const { name, spiffe_id, roles, uid } = request.operator;
  return {
    operator: { name, spiffe_id, roles, uid: uid ?? -1 },
    action: request.action,
    subject: request.subject,
    request: { params: request.params ?? {}, query: request.query ?? {}, body: request.body ?? {} },
    context: { time: new Date(nowMs).toISOString(), time_ns: Math.floor(nowMs) * 1_000_000 },
  };
}
