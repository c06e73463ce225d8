import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { DATASTORES, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { Operators } from './operators.ts';

describe.each(DATASTORES)('Operators (%s)', (_name, open) => {
  let kept: TestDatastore;
  let operators: Operators;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    operators = new Operators({ datastore: kept.datastore, clock });
  });
  afterAll(() => kept.dispose());
  const wish = (name: string, serial = '01') => ({
    name,
    roles: ['registrar', 'admin', 'admin'] as const,
    certificate: { serial, notAfterMs: clock.nowMs() + 1000 },
  });

  test('create() keeps an operator, findInForce() finds it by its certificate alone', async () => {
    const ada = await operators.create(wish('ada'));
    expect(ada).toMatchObject({ name: 'ada', roles: ['admin', 'registrar'], isRevoked: false });
    expect(await operators.findInForce('ada', '01')).toEqual(ada);
    expect(await operators.findInForce('ada', '02')).toBeUndefined();
    expect(await operators.findInForce('bob', '01')).toBeUndefined();
  });

  test('create() gives a name to one of a race, and again when its certificate has ended or was revoked', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 6 }, (_, i) => operators.create(wish('raced', `0${i}`))),
    );
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    for (const result of results)
      if (result.status === 'rejected')
        expect(result.reason).toMatchObject({ code: 'already_exists', reason: 'operator_exists' });
    await operators.revoke('raced');
    await operators.create(wish('raced', '10'));
    clock.advance(1000);
    expect(await operators.findInForce('raced', '10')).toBeUndefined();
    await operators.create(wish('raced', '11'));
    expect(await operators.findInForce('raced', '10')).toBeUndefined();
    expect(await operators.findInForce('raced', '11')).toBeDefined();
  });

  test('revoke() shuts an operator out', async () => {
    await operators.create(wish('eve'));
    expect(await operators.revoke('eve')).toMatchObject({ isRevoked: true });
    expect(await operators.findInForce('eve', '01')).toBeUndefined();
    expect(await operators.find('eve')).toMatchObject({ isRevoked: true });
    expect(operators.revoke('nobody')).rejects.toMatchObject({
      code: 'not_found',
      reason: 'operator_unknown',
    });
  });

  test('create() refuses a bad name and no roles', async () => {
    for (const name of ['', '.', '..', 'a/b', 'a b', 'x'.repeat(65)])
      expect(operators.create(wish(name))).rejects.toMatchObject({ reason: 'operator_name_invalid' });
    expect(operators.create({ ...wish('none'), roles: [] })).rejects.toMatchObject({
      reason: 'operator_roles_missing',
    });
  });

  test('list() pages by name', async () => {
    const first = await operators.list({ limit: 2 });
    const rest = await operators.list({ limit: 2, cursor: first.nextCursor ?? '' });
    expect([...first.operators, ...rest.operators].map(({ name }) => name)).toEqual(['ada', 'eve', 'raced']);
  });
});
