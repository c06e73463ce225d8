import { describe, expect, test } from 'bun:test';
import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { jsonAnswer } from './answer.ts';
import type { ActionRecord } from './audited.ts';
import type { DecideAdmin } from './authorize.ts';
import { jsonBody } from './body.ts';
import type { OperatorCaller } from './caller.ts';
import { operatorGate } from './gate.ts';
import { routesFor, type RequestContext } from './route.ts';

const log = createLog({ level: 'error', nowMs: () => 0, write: () => undefined });
const defineRoute = routesFor<OperatorCaller>();
const rename = defineRoute({
  method: 'POST',
  path: '/things/:id',
  action: 'thing.rename',
  tag: 'things',
  summary: 'Rename a thing',
  params: z.object({ id: z.string() }),
  body: jsonBody(z.object({ name: z.string() })),
  answer: jsonAnswer(z.object({ name: z.string() })),
  logged: ({ body }) => ({ name: body.name }),
  handle: ({ body }) => {
    if (body.name === 'taken') throw new PicketError('already_exists', 'name_taken', 'The name is taken');
    if (body.name === 'gone') throw new PicketError('unavailable', 'database_unavailable', 'It is gone');
    return { name: body.name };
  },
});
const show = defineRoute({
  method: 'GET',
  path: '/things',
  action: 'thing.list',
  tag: 'things',
  summary: 'List things',
  answer: jsonAnswer(z.object({})),
  handle: () => ({}),
});

const carol: OperatorCaller = {
  kind: 'operator',
  actor: parseSpiffeId('spiffe://example.org/picket/operator/carol'),
  name: 'carol',
  roles: ['auditor'],
};
const root: OperatorCaller = { kind: 'local', actor: 'local:uid:0', uid: 0 };
const allow: DecideAdmin = () => ({ isAllowed: true, message: 'yes' });
const deny: DecideAdmin = () => ({ isAllowed: false, message: 'auditors read' });
const fail: DecideAdmin = () => {
  throw new Error('engine broken');
};

function call(options: {
  readonly caller: OperatorCaller;
  readonly decide: DecideAdmin;
  readonly body?: string;
  readonly route?: typeof rename;
  readonly record?: (record: ActionRecord) => Promise<void>;
}) {
  const records: ActionRecord[] = [];
  const gate = operatorGate({
    authenticate: () => options.caller,
    decide: options.decide,
    record:
      options.record ??
      (async (record) => {
        await Promise.resolve(records.push(record));
      }),
    log,
  });
  const route = options.route ?? rename;
  const body =
    route === rename
      ? { bytes: Buffer.from(options.body ?? '{"name":"b"}'), mediaType: 'application/json' }
      : undefined;
  const answer = gate.pass(
    { route, caller: options.caller, raw: { params: { id: 'a' }, query: {}, body } },
    async (prepared) => await prepared.run({ caller: options.caller } as RequestContext<OperatorCaller>),
  );
  return { records, answer };
}

describe('operatorGate()', () => {
  test('operatorGate() runs and records what the policy allows', async () => {
    const { records, answer } = call({ caller: carol, decide: allow });
    expect(await (await answer).json()).toEqual({ name: 'b' });
    expect(records).toEqual([
      {
        actor: carol.actor,
        action: 'thing.rename',
        subject: 'a',
        decision: 'allow',
        outcome: 'done',
        detail: { name: 'b' },
      },
    ]);
  });

  test('operatorGate() refuses and records what the policy denies, and when it cannot be asked', async () => {
    for (const decide of [deny, fail]) {
      const { records, answer } = call({ caller: carol, decide });
      expect(await answer.catch((error: unknown) => error)).toMatchObject({
        code: 'permission_denied',
        reason: 'admin_policy',
      });
      expect(records).toMatchObject([{ decision: 'deny', outcome: 'permission_denied/admin_policy' }]);
    }
  });

  test('operatorGate() lets uid 0 pass a policy that denies or fails, and records it; no other local uid', async () => {
    for (const decide of [deny, fail]) {
      const { records, answer } = call({ caller: root, decide });
      expect((await answer).status).toBe(200);
      expect(records).toMatchObject([{ actor: 'local:uid:0', decision: 'allow', outcome: 'done' }]);
    }
    const other = call({ caller: { kind: 'local', actor: 'local:uid:1000', uid: 1000 }, decide: deny });
    expect(other.answer).rejects.toMatchObject({ code: 'permission_denied' });
  });

  test('operatorGate() records a failed action with its reason and a malformed one as refused', async () => {
    const failed = call({ caller: carol, decide: allow, body: '{"name":"taken"}' });
    expect(await failed.answer.catch((error: unknown) => error)).toMatchObject({ reason: 'name_taken' });
    expect(failed.records).toMatchObject([{ decision: 'allow', outcome: 'already_exists/name_taken' }]);
    const malformed = call({ caller: carol, decide: allow, body: '{"name":1}' });
    expect(await malformed.answer.catch((error: unknown) => error)).toMatchObject({
      reason: 'request_invalid',
    });
    expect(malformed.records).toMatchObject([
      { decision: 'deny', outcome: 'invalid_argument/request_invalid' },
    ]);
  });

  test('operatorGate() decides reading too, without a record', async () => {
    const read = call({ caller: carol, decide: allow, route: show });
    expect((await read.answer).status).toBe(200);
    expect(read.records).toEqual([]);
    const refused = call({ caller: carol, decide: deny, route: show });
    expect(refused.answer).rejects.toMatchObject({ code: 'permission_denied' });
  });

  test('operatorGate() never answers success for an action that could not be recorded', async () => {
    const { answer } = call({
      caller: root,
      decide: allow,
      record: async () => await Promise.reject(new Error('database gone')),
    });
    expect(answer).rejects.toMatchObject({ code: 'internal', reason: 'audit_unavailable' });
    await answer.catch(() => undefined);
  });

  test('operatorGate() answers what is amiss with the database where an action and its record fail for it', async () => {
    const gone = async () =>
      await Promise.reject(new PicketError('unavailable', 'database_unavailable', 'Database gone'));
    const { answer } = call({ caller: root, decide: allow, body: '{"name":"gone"}', record: gone });
    expect(await answer.catch((error: unknown) => error)).toMatchObject({ reason: 'database_unavailable' });
  });
});
