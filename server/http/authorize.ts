import { PicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { OperatorCaller } from './caller.ts';

/** What an operator wishes to do, as policies/admin sees it. */
export interface AdminQuestion {
  readonly caller: OperatorCaller;
  /** `noun.verb` */
  readonly action: string;
  readonly subject: string;
  readonly params: unknown;
  readonly query: unknown;
  /** The validated body; null for a body of bytes and where there is none. */
  readonly body: unknown;
}

export interface AdminVerdict {
  readonly isAllowed: boolean;
  /** One sentence for people. */
  readonly message: string;
}

/** Asks policies/admin. A throw counts as a denial. */
export type DecideAdmin = (question: AdminQuestion) => AdminVerdict | Promise<AdminVerdict>;

/** Only this uid stands outside Rego, so that a bad admin policy locks nobody out. */
const ROOT_UID = 0;

/** Whether the caller may do it: uid 0 on the local socket always, everybody else as policies/admin says. Never throws. */
export async function authorize(
  question: AdminQuestion,
  options: { readonly decide: DecideAdmin; readonly log: Log },
): Promise<AdminVerdict> {
  const { caller } = question;
  if (caller.kind === 'local' && caller.uid === ROOT_UID)
    return { isAllowed: true, message: 'uid 0 on the local socket' };
  try {
    return await options.decide(question);
  } catch (error) {
    options.log.error('admin_policy_failed', { action: question.action, actor: caller.actor, error });
    return { isAllowed: false, message: 'The admin policy could not be evaluated' };
  }
}

/** The refusal that a denied operator is told. */
export function denied(question: AdminQuestion, verdict: AdminVerdict): PicketError {
  return new PicketError(
    'permission_denied',
    'admin_policy',
    `${question.caller.actor} may not do ${question.action}: ${verdict.message}`,
  );
}
