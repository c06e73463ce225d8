import type { AdminQuestion } from '../http/authorize.ts';
import type { AdminRequest } from './admin-input.ts';

/** What an operator's call looks like to the admin policy. */
export function toAdminRequest(question: AdminQuestion): AdminRequest {
  const { caller, action, subject, params, query, body } = question;
  const operator =
    caller.kind === 'local'
      ? { name: '', spiffe_id: '', roles: [], uid: caller.uid }
      : { name: caller.name, spiffe_id: caller.actor, roles: caller.roles, uid: null };
  return { operator, action, subject, params, query, body };
}
