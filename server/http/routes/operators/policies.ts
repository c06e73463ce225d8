import { z } from 'zod';
import {
  paging,
  policyActivated,
  policyAnswer,
  policyContent,
  policyPage,
  policyPublished,
  policyQuestion,
  policyRollback,
  policyTarget,
} from '../../../../shared/protocol/operator.ts';
import type { PolicyAdmin } from '../../../policy-admin/policy-admin.ts';
import {
  jsonSubmission,
  MAX_SUBMISSION_BYTES,
  parseSubmission,
  type PolicySubmission,
} from '../../../policy-admin/submission.ts';
import { jsonAnswer } from '../../answer.ts';
import { jsonBody, type BodyKind } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';
import { withoutUndefined } from './without-undefined.ts';

const TAG = 'policies';
/** OPA checks, tests and compiles; each of its runs has a bound of its own. */
const PUBLISH_MS = 300_000;

const ofTarget = z.object({ target: policyTarget.default('mesh') });

/** Told apart by the bytes; the media type is for those who read the document. */
const submission: BodyKind<PolicySubmission> = {
  maxBytes: MAX_SUBMISSION_BYTES,
  media: {
    'application/json': jsonSubmission,
    'application/gzip': undefined,
    'application/x-gzip': undefined,
    'application/octet-stream': undefined,
  },
  parse: (bytes) => parseSubmission(bytes),
};

/** Policies: publish, list, roll back, ask. */
export function policyRoutes(policies: PolicyAdmin): readonly Route<OperatorCaller>[] {
  return [
    defineOperatorRoute({
      method: 'POST',
      path: '/policies',
      action: 'policy.publish',
      tag: TAG,
      summary: 'Check a Rego bundle, sign it and put it in force; a bad one changes nothing',
      query: ofTarget.extend({ message: z.string().max(1024).default('') }),
      body: submission,
      answer: jsonAnswer(policyPublished, { status: 201 }),
      timeoutMs: PUBLISH_MS,
      subject: ({ query }) => query.target,
      logged: ({ body }) => ({ files: Object.keys(body.files), message: body.message }),
      handle: async ({ query, body }, { caller }) => {
        const message = body.message === '' ? query.message : body.message;
        const published = await policies.publish({
          target: query.target,
          files: body.files,
          message,
          actor: caller.actor,
        });
        const ignored = body.ignoredFiles.map((name) => `${name} is no file of a policy and was left out`);
        return { ...published, warnings: [...published.warnings, ...ignored] };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: '/policies',
      action: 'policy.list',
      tag: TAG,
      summary: 'Versions, newest first',
      query: paging.extend(ofTarget.shape),
      answer: jsonAnswer(policyPage),
      handle: async ({ query }) => {
        const { items, next } = await policies.list(withoutUndefined(query));
        return { items: [...items], next };
      },
    }),
    defineOperatorRoute({
      method: 'POST',
      path: '/policies/rollback',
      action: 'policy.rollback',
      tag: TAG,
      summary: 'Put an earlier version’s content in force again, under a new and higher sequence',
      body: jsonBody(policyRollback),
      answer: jsonAnswer(policyActivated),
      subject: ({ body }) => `${body.target} ${body.version}`,
      handle: async ({ body }, { caller }) => await policies.rollback({ ...body, actor: caller.actor }),
    }),
    ...evaluationRoutes(policies),
    defineOperatorRoute({
      method: 'GET',
      path: '/policies/:version',
      action: 'policy.read',
      tag: TAG,
      summary: 'A version with its files',
      params: z.object({ version: z.coerce.number().int().min(1) }),
      query: ofTarget,
      answer: jsonAnswer(policyContent),
      handle: async ({ params: { version }, query: { target } }) => {
        const found = await policies.get({ target, version });
        return { ...found, files: { ...found.files } };
      },
    }),
  ];
}

/** Asking changes nothing, by either method. */
function evaluationRoutes(policies: PolicyAdmin): readonly Route<OperatorCaller>[] {
  const common = {
    path: '/policies/evaluate',
    action: 'policy.evaluate',
    tag: TAG,
    isMutating: false,
    answer: jsonAnswer(policyAnswer),
  } as const;
  return [
    defineOperatorRoute({
      ...common,
      method: 'GET',
      summary: 'What the mesh’s policy would say of a request, and which rules fired; headers only by POST',
      query: policyQuestion.omit({ headers: true }),
      handle: async ({ query }) => await policies.evaluate({ ...query, headers: {} }),
    }),
    defineOperatorRoute({
      ...common,
      method: 'POST',
      summary: 'What the mesh’s policy would say of a request, and which rules fired',
      body: jsonBody(policyQuestion),
      handle: async ({ body }) => await policies.evaluate(body),
    }),
  ];
}
