import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import type { DecisionNetworks, DecisionUser } from '../../shared/policy/circumstances.ts';
import { DECISION_REASONS, type DecisionRequest, type Verdict } from '../../shared/policy/decision.ts';
import { buildPolicyInput } from '../../shared/policy/policy-input.ts';
import type { PolicyInput } from '../../shared/policy/policy-engine.ts';
import { toErrorVerdict, toVerdict, type VerdictContext } from '../../shared/policy/verdict.ts';
import type { policyAnswer, policyQuestion } from '../../shared/protocol/operator.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { evaluateInSandbox, type SandboxResult } from './policy-sandbox.ts';
import type { PolicyCompiler } from './policy-compiler.ts';
import { findActivePolicy, findPolicyVersion, type PolicyVersionRow } from './policy-store.ts';

export type PolicyQuestion = z.output<typeof policyQuestion>;
export type PolicyAnswer = z.output<typeof policyAnswer>;

/** An answer that no rule was asked for. */
interface KnownAnswer {
  readonly reason: 'no_policy' | 'policy_allow' | 'policy_deny' | 'egress_deny' | 'policy_error';
  readonly message?: string;
  readonly version: number | null;
}

/** Where a hypothetical caller calls from, unless the question says: an address of documentation (RFC 5737). */
const ANY_ADDRESS = '192.0.2.1';
const ANY_TARGET = '192.0.2.2';

/** A hypothetical caller's certificate has this long to live, in milliseconds. */
const CERTIFICATE_MS = 3_600_000;

/**
 * What the mesh policy (in force, or the version that is asked for) would say of a request, and which rules fired. It is evaluated as on a
 * host, and changes and records nothing. Throws `not_found`, reason `policy_version_unknown`, and `invalid_argument`, reason `question_senseless`.
 */
export async function evaluatePolicy(
  question: PolicyQuestion,
  options: { readonly datastore: Datastore; readonly compiler: PolicyCompiler; readonly clock: Clock },
): Promise<PolicyAnswer> {
  requireSense(question);
  const nowMs = question.at === undefined ? options.clock.nowMs() : Date.parse(question.at);
  const row = await findRow(options.datastore, question.version);
  const version = row?.version ?? null;
  const input = buildInput(question, nowMs);
  if (input instanceof PicketError)
    return answer({}, { reason: 'policy_error', message: input.message, version });
  if (row === undefined) return answer(input, { reason: 'no_policy', version });
  const entrypoint = question.direction === 'outbound' ? row.entrypoints.egress : row.entrypoints.allow;
  if (entrypoint === undefined) return answer(input, { ...withoutRule(question), version });
  const [result] = await evaluateInSandbox({ artifact: row.artifact, cases: [{ entrypoint, input, nowMs }] });
  const rules = await options.compiler.explain(row.files, { entrypoint, input, nowMs });
  const verdict = judge(result, {
    denyReason: question.direction === 'outbound' ? 'egress_deny' : 'policy_deny',
    isLeaving: question.direction === 'outbound' && question.target === '',
    policyVersion: row.version,
    latencyUs: 0,
  });
  return { ...describeVerdict(verdict), rules: [...rules], input: { ...input } };
}

/** UDP is decided where it leaves the mesh, and nowhere else: another answer would be one that no host gives. */
function requireSense({ protocol, direction, target, method }: PolicyQuestion): void {
  if (protocol === undefined || (direction === 'outbound' && target === '' && method === undefined)) return;
  throw new PicketError(
    'invalid_argument',
    'question_senseless',
    'UDP is decided where it leaves the mesh: ask with direction outbound, without target and method',
  );
}

/** What a host does where the policy has no rule for it. */
function withoutRule({ direction, target }: PolicyQuestion): Omit<KnownAnswer, 'version'> {
  if (direction === 'inbound') return { reason: 'policy_deny', message: 'the policy has no allow rule' };
  return target === ''
    ? {
        reason: 'egress_deny',
        message: 'the policy has no egress rule, and without one nothing leaves the mesh',
      }
    : { reason: 'policy_allow', message: 'the policy has no egress rule' };
}

function requestOf(question: PolicyQuestion, nowMs: number): DecisionRequest {
  const spiffeId = question.caller === '' ? null : question.caller;
  const headers = Object.entries(question.headers).map(([name, value]) => [name.toLowerCase(), value]);
  return {
    decisionId: 'evaluation',
    caller: {
      spiffeId,
      address: question.sourceAddress ?? ANY_ADDRESS,
      port: 40_000,
      certificateNotAfterMs: spiffeId === null ? 0 : nowMs + CERTIFICATE_MS,
    },
    target: {
      spiffeId: question.target === '' ? null : question.target,
      address: question.targetAddress ?? ANY_TARGET,
      port: question.targetPort,
      ...(question.domain === '' ? {} : { domain: question.domain }),
    },
    ...(question.protocol === undefined ? {} : { transport: question.protocol }),
    ...(question.serverName === undefined ? {} : { tls: { serverName: question.serverName, alpn: [] } }),
    http:
      question.method === undefined
        ? null
        : {
            // A request within TLS that is inspected.
            ...(question.serverName === undefined ? {} : { scheme: 'https' }),
            method: question.method,
            path: question.path,
            host: question.host,
            headers: Object.fromEntries(headers) as Record<string, string>,
          },
  };
}

function networksOf({ inNetworks = [], outsideNetworks = [] }: PolicyQuestion): DecisionNetworks {
  return Object.fromEntries([
    ...outsideNetworks.map((name) => [name, false] as const),
    ...inNetworks.map((name) => [name, true] as const),
  ]);
}

/** Throws `invalid_argument`, reason `user_claims_invalid`. */
function userOf({ userClaims, userIssuer }: PolicyQuestion, nowMs: number): DecisionUser {
  if (userClaims === undefined) return { kind: 'unknown', reason: 'no_token' };
  const claims = readClaims(userClaims);
  const aud = z.union([z.string().transform((one) => [one]), z.array(z.string())]).safeParse(claims['aud']);
  const groups = z.array(z.string()).safeParse(claims['groups']);
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  const expiresMs = typeof claims['exp'] === 'number' ? claims['exp'] * 1000 : nowMs + CERTIFICATE_MS;
  if (expiresMs <= nowMs) return { kind: 'unknown', reason: 'expired' };
  const subject = text(claims['sub']);
  return {
    kind: 'known',
    id: `${userIssuer}:${subject}`,
    issuer: text(claims['iss']),
    subject,
    audience: aud.success ? aud.data : [],
    groups: groups.success ? groups.data : [],
    claims,
    expiresMs,
  };
}

function readClaims(text: string): Readonly<Record<string, unknown>> {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch (cause) {
    const message = `Cannot read the claims of a user in ${text.slice(0, 200)}: a JSON object is expected`;
    throw new PicketError('invalid_argument', 'user_claims_invalid', message, { cause });
  }
}

async function findRow(
  datastore: Datastore,
  wished: number | undefined,
): Promise<PolicyVersionRow | undefined> {
  const version = wished ?? (await findActivePolicy(datastore.db, 'mesh'))?.version;
  if (version === undefined) return undefined;
  const row = await findPolicyVersion(datastore.db, { target: 'mesh', version });
  if (row !== undefined) return row;
  throw new PicketError(
    'not_found',
    'policy_version_unknown',
    `There is no version ${version} of the mesh policy`,
  );
}

function judge(result: SandboxResult | undefined, context: VerdictContext): Verdict {
  if (result?.isOk === true) return toVerdict(result.value, context);
  return toErrorVerdict(new PicketError('internal', 'policy_error', result?.message ?? ''), context);
}

function describeVerdict(verdict: Verdict): Omit<PolicyAnswer, 'rules' | 'input'> {
  return {
    decision: verdict.isAllowed ? 'allow' : 'deny',
    ...(verdict.wouldDeny === undefined ? {} : { wouldDeny: [...verdict.wouldDeny.rules] }),
    ...describeTerms(verdict.terms),
    reason: verdict.reason,
    message: verdict.message,
    version: verdict.policyVersion,
  };
}

/** The input, or the error for a request that is denied before any policy is asked. */
function buildInput(question: PolicyQuestion, nowMs: number): PolicyInput | PicketError {
  try {
    return buildPolicyInput(requestOf(question, nowMs), {
      nowMs,
      direction: question.direction,
      user: userOf(question, nowMs),
      networks: networksOf(question),
    });
  } catch (error) {
    if (error instanceof PicketError && error.reason === 'policy_error') return error;
    throw error;
  }
}

/** The answer where there is no rule to ask. */
function answer(input: PolicyInput, known: KnownAnswer): PolicyAnswer {
  return {
    decision: known.reason === 'policy_allow' ? 'allow' : 'deny',
    reason: known.reason,
    message: known.message ?? DECISION_REASONS[known.reason].text,
    version: known.version,
    rules: [],
    input: { ...input },
  };
}

function describeTerms(terms: Verdict['terms']): Pick<PolicyAnswer, 'via' | 'serverCertificate' | 'inspect'> {
  if (terms === undefined) return {};
  const { via, certificate, isInspected } = terms;
  return {
    ...(via === undefined ? {} : { via }),
    ...(certificate === undefined
      ? {}
      : {
          serverCertificate: {
            ...(certificate.spkiSha256 === undefined ? {} : { spkiSha256: [...certificate.spkiSha256] }),
            ...(certificate.authority === undefined ? {} : { authority: certificate.authority }),
          },
        }),
    ...(isInspected === undefined ? {} : { inspect: isInspected }),
  };
}
