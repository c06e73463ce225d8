import { expect, test } from 'bun:test';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { MemoryStore } from '../key-store/memory.ts';
import { LastGood } from './last-good.ts';

const SIGNED = { statement: '{}', signature: 'AAAA', chain: ['AAAA'] };

test('LastGood reads back what was written, and nothing where nothing was', async () => {
  const kept = new LastGood(new MemoryStore());
  expect(await kept.readPolicy()).toBeUndefined();
  expect(await kept.readSequences()).toEqual({ highest: 0, kept: 0 });
  const policy = { signed: SIGNED, artifact: Buffer.from([1, 2, 3]) };
  await kept.writePolicy(policy);
  await kept.writeSequences({ highest: 7, kept: 5 });
  expect(await kept.readPolicy()).toEqual(policy);
  expect(await kept.readSequences()).toEqual({ highest: 7, kept: 5 });
});

test.each([
  ['nothing', ''],
  ['less than a length', '\0\0'],
  ['a length beyond the end', '\0\0\0\xff{}'],
  ['no JSON', '\0\0\0\x02xx'],
  ['another form', '\0\0\0\x02{}'],
])('LastGood refuses a policy that is %s', async (_name, value) => {
  const store = new MemoryStore();
  await store.write('policy-last-good', Buffer.from(value, 'latin1'));
  expect((await refusalOf(new LastGood(store).readPolicy())).reason).toBe('state_unknown');
});

test.each(['', '{', '{"sequence":-1}'])('LastGood refuses sequences that are %p', async (value) => {
  const store = new MemoryStore();
  await store.write('policy-highest-sequence', Buffer.from(value));
  expect((await refusalOf(new LastGood(store).readSequences())).reason).toBe('state_unknown');
});
