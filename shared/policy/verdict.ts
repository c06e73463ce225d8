import { PicketError } from '../errors/errors.ts';
import { DECISION_REASONS, type DecisionReason, type Verdict } from './decision.ts';
import { findTermsFault, readTerms } from './egress-terms.ts';

/** Which evaluation a result came from. */
export interface VerdictContext {
  /** The reason of a denial by the policy: `egress_deny` on the calling side. */
  readonly denyReason: 'policy_deny' | 'egress_deny';
  /** Whether what was asked about leaves the mesh: only then may a result make terms (`EgressTerms`). */
  readonly isLeaving?: boolean;
  readonly policyVersion: number | null;
  readonly latencyUs: number;
}

const DEFAULT_STATUS = 403;
const MAX_MESSAGE_LENGTH = 1024;

/** How many rules in audit a result may name as such that would deny, and how long a name may be. */
export const MAX_RULES = 16;
export const MAX_RULE_CHARACTERS = 128;

/** Results of opa-envoy-plugin that would change the request on its way; an allow that asks for one is not carried out by halves. */
const REQUEST_CHANGES = [
  'headers',
  'request_headers_to_remove',
  'query_parameters_to_set',
  'query_parameters_to_remove',
] as const;

/** What an allow on the calling side may say. A term that an older agent, or one with a typing mistake before it, does not know is not passed over: its author believes in it. */
const KNOWN_OF_EGRESS: ReadonlySet<string> = new Set([
  'allowed',
  'http_status',
  'body',
  'reason',
  'would_deny',
  'via',
  'server_certificate',
  'inspect',
  ...REQUEST_CHANGES,
]);

/**
 * The verdict of an evaluation's value: a boolean, or the object of opa-envoy-plugin (`allowed`, `http_status`, `body`, and `reason`, `would_deny`, `via`,
 * `server_certificate` and `inspect` of ours). Undefined is a denial by the policy; anything else, and an allow that asks for what is not done, is a denial with `policy_error`.
 */
export function toVerdict(value: unknown, context: VerdictContext): Verdict {
  if (value === true) return allow(undefined, context);
  if (value === false || value === undefined) return deny(context.denyReason, {}, context);
  const fault = findResultFault(value);
  if (fault !== undefined) return deny('policy_error', { message: `${faultText()}: ${fault}` }, context);
  const result = value as PolicyResult;
  const message = [result.reason, result.body].find((text) => typeof text === 'string' && text !== '');
  const rules = result.would_deny ?? [];
  if (!result.allowed) return denyByPolicy(result, message, context);
  const unknown = context.denyReason === 'egress_deny' ? findUnknown(result) : undefined;
  if (unknown !== undefined)
    return deny(
      'policy_error',
      { message: `${faultText()}: "${unknown}" is not known in its result` },
      context,
    );
  const terms = readTerms(result);
  if (terms !== undefined && context.isLeaving !== true)
    return deny('policy_error', { message: `${faultText()}: ${MISPLACED_TERMS}` }, context);
  const verdict = rules.length > 0 ? passInAudit(rules, message, context) : allow(message, context);
  return terms === undefined ? verdict : { ...verdict, terms };
}

const MISPLACED_TERMS = 'it names a gateway, a certificate or an inspection for what does not leave the mesh';

function findUnknown(result: PolicyResult): string | undefined {
  return Object.keys(result)
    .find((key) => !KNOWN_OF_EGRESS.has(key))
    ?.slice(0, MAX_RULE_CHARACTERS);
}

function denyByPolicy(result: PolicyResult, message: unknown, context: VerdictContext): Verdict {
  return deny(context.denyReason, { message, httpStatus: result.http_status }, context);
}

/** The denial of an evaluation that threw. */
export function toErrorVerdict(error: unknown, context: VerdictContext): Verdict {
  const message = error instanceof PicketError ? error.message : faultText();
  return deny('policy_error', { message }, context);
}

/** A denial that no evaluation led to. */
export function denyWith(
  reason: Exclude<DecisionReason, 'policy_allow'>,
  context: Pick<VerdictContext, 'policyVersion' | 'latencyUs'>,
): Verdict {
  return deny(reason, {}, context);
}

/** What is wrong with a value as the result of a policy, or undefined when nothing is. Undefined is a result: a denial. */
export function findResultFault(value: unknown): string | undefined {
  if (value === undefined || typeof value === 'boolean') return undefined;
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return `the result is neither a boolean nor an object but ${describeKind(value)}`;
  const result = value as Readonly<Record<string, unknown>>;
  if (typeof result['allowed'] !== 'boolean') return 'the object has no boolean "allowed"';
  if (!areRules(result['would_deny']))
    return `"would_deny" is no list of at most ${MAX_RULES} names of rules`;
  if (!result['allowed']) return undefined;
  const fault = findTermsFault(result);
  if (fault !== undefined) return fault;
  const change = REQUEST_CHANGES.find((key) => !isEmpty(result[key]));
  return change === undefined ? undefined : `it changes the request by "${change}", which is not supported`;
}

interface PolicyResult extends Readonly<Record<string, unknown>> {
  readonly allowed: boolean;
  readonly http_status?: unknown;
  readonly body?: unknown;
  readonly reason?: unknown;
  readonly would_deny?: readonly string[] | null;
}

function allow(message: unknown, { policyVersion, latencyUs }: VerdictContext): Verdict {
  return {
    isAllowed: true,
    reason: 'policy_allow',
    message: toMessage(message, 'policy_allow'),
    httpStatus: DEFAULT_STATUS,
    policyVersion,
    latencyUs,
  };
}

/** Rules in audit: what they would deny passes. */
function passInAudit(rules: readonly string[], message: unknown, context: VerdictContext): Verdict {
  return {
    ...allow(message ?? `Would be denied by ${rules.join(', ')}`, context),
    reason: context.denyReason,
    wouldDeny: { rules },
  };
}

function areRules(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  return (
    Array.isArray(value) &&
    value.length <= MAX_RULES &&
    value.every((name) => typeof name === 'string' && name !== '' && name.length <= MAX_RULE_CHARACTERS)
  );
}

function deny(
  reason: Exclude<DecisionReason, 'policy_allow'>,
  said: { readonly message?: unknown; readonly httpStatus?: unknown },
  { policyVersion, latencyUs }: Pick<VerdictContext, 'policyVersion' | 'latencyUs'>,
): Verdict {
  return {
    isAllowed: false,
    reason,
    message: toMessage(said.message, reason),
    httpStatus: isErrorStatus(said.httpStatus) ? said.httpStatus : DEFAULT_STATUS,
    policyVersion,
    latencyUs,
  };
}

/** One line of bounded length: it ends up in logs, headers of a tunnel frame and records. */
function toMessage(text: unknown, reason: DecisionReason): string {
  if (typeof text !== 'string') return DECISION_REASONS[reason].text;
  return text
    .slice(0, MAX_MESSAGE_LENGTH)
    .toWellFormed()
    .replace(/\p{Cc}+/gu, ' ');
}

function isErrorStatus(status: unknown): status is number {
  return typeof status === 'number' && Number.isInteger(status) && status >= 400 && status <= 599;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function describeKind(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array or a set' : `a ${typeof value}`;
}

function faultText(): string {
  return DECISION_REASONS.policy_error.text;
}
