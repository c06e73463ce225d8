import type { Log } from '../../shared/runtime/log.ts';
import { audited, outcomeOf, recordOrFail, type ActionToRecord, type RecordAction } from './audited.ts';
import { authorize, denied, type AdminQuestion, type DecideAdmin } from './authorize.ts';
import type { Caller, OperatorCaller } from './caller.ts';
import type { Gate, GatedRequest } from './mount-routes.ts';
import type { PreparedRequest } from './route.ts';

/** The gate of callers who may use every route of their table once they are authenticated: agents, and hosts that attest. */
export function openGate<C extends Caller>(authenticate: Gate<C>['authenticate']): Gate<C> {
  return {
    authenticate,
    pass: async ({ route, raw }, run) => await run(route.prepare(raw)),
  };
}

export interface OperatorGateOptions {
  readonly authenticate: Gate<OperatorCaller>['authenticate'];
  readonly decide: DecideAdmin;
  readonly record: RecordAction;
  readonly log: Log;
}

/** The operators' gate: policies/admin decides each call, and each mutating call is recorded, the refused and the malformed too. */
export function operatorGate(options: OperatorGateOptions): Gate<OperatorCaller> {
  return {
    authenticate: options.authenticate,
    pass: async (request, run) => {
      const prepared = await prepareOrRecord(request, options);
      const question = questionOf(request, prepared);
      const verdict = await authorize(question, options);
      const action = actionOf(request, prepared);
      const { isMutating } = request.route;
      if (!verdict.isAllowed) {
        const refusal = denied(question, verdict);
        if (isMutating)
          await recordOrFail({ ...action, decision: 'deny', outcome: outcomeOf(refusal) }, options);
        throw refusal;
      }
      if (!isMutating) return await run(prepared);
      return await audited(
        { ...action, decision: 'allow' },
        { ...options, run: async () => await run(prepared) },
      );
    },
  };
}

async function prepareOrRecord(
  { route, caller, raw }: GatedRequest<OperatorCaller>,
  options: OperatorGateOptions,
): Promise<PreparedRequest<OperatorCaller>> {
  try {
    return route.prepare(raw);
  } catch (error) {
    if (route.isMutating)
      await recordOrFail(
        {
          actor: caller.actor,
          action: route.action,
          subject: Object.values(raw.params).join(' ').slice(0, MAX_SUBJECT),
          decision: 'deny',
          outcome: outcomeOf(error),
          detail: {},
        },
        options,
      );
    throw error;
  }
}

/** The longest subject that is kept: a SPIFFE ID fits. */
const MAX_SUBJECT = 2048;

function questionOf(
  { route, caller, raw }: GatedRequest<OperatorCaller>,
  { subject, input }: PreparedRequest<OperatorCaller>,
): AdminQuestion {
  const isJson = raw.body?.mediaType === 'application/json';
  return {
    caller,
    action: route.action,
    subject,
    params: input.params ?? {},
    query: input.query ?? {},
    body: isJson ? input.body : null,
  };
}

function actionOf(
  { route, caller }: GatedRequest<OperatorCaller>,
  { subject, logged }: PreparedRequest<OperatorCaller>,
): Omit<ActionToRecord, 'decision'> {
  return {
    actor: caller.actor,
    action: route.action,
    subject: subject.slice(0, MAX_SUBJECT),
    detail: logged,
  };
}
