import { beforeEach, describe, expect, test } from 'bun:test';
import type { StreamFailure } from './byte-stream.ts';
import { ScriptedStream, settled } from '../fixtures/scripted-stream.ts';
import { splice } from './splice.ts';

const BROKEN: StreamFailure = { reason: 'policy_deny', decisionId: 'd', message: 'it broke' };

let near: ScriptedStream;
let far: ScriptedStream;
let done: (StreamFailure | undefined)[];

beforeEach(() => {
  [near, far, done] = [new ScriptedStream(), new ScriptedStream(), []];
  splice(near, far, (failure) => done.push(failure));
});

describe('splice()', () => {
  test('passes bytes both ways', () => {
    near.says('question');
    far.says('answer');
    near.says('s');
    expect([near.text, far.text]).toEqual(['answer', 'questions']);
  });

  test('passes the end of one direction and leaves the other open', async () => {
    near.ends();
    await settled();
    expect([far.isEnded, near.isEnded]).toEqual([true, false]);
    far.says('still here');
    expect(near.text).toBe('still here');
    far.ends();
    await settled();
    expect([near.isEnded, done]).toEqual([true, []]);
  });

  test('is done once, when both are closed', async () => {
    near.closes();
    await settled();
    expect(done).toEqual([]);
    far.closes();
    await settled();
    expect([done, near.abortion, far.abortion]).toEqual([[undefined], undefined, undefined]);
  });

  test('holds the source back while the other side has no room, and lets it go on', async () => {
    far.hasRoom = false;
    near.says('more than fits');
    expect([near.isPaused, far.isPaused]).toEqual([true, false]);
    near.says(' and more');
    await settled();
    expect(far.text).toBe('more than fits');
    far.hasRoom = true;
    far.drains();
    await settled();
    expect([near.isPaused, far.text]).toEqual([false, 'more than fits and more']);
  });

  test.each(['near', 'far'] as const)(
    'breaks both with the failure of the %s one, and is done once',
    async (which) => {
      const [broken, other] = which === 'near' ? [near, far] : [far, near];
      broken.closes(BROKEN);
      await settled();
      expect([other.abortion, done]).toEqual([{ failure: BROKEN }, [BROKEN]]);
      other.closes({ message: 'later' });
      await settled();
      expect(done).toEqual([BROKEN]);
    },
  );

  test('breaks what is open when the other one had closed before', async () => {
    near.closes();
    await settled();
    far.closes(BROKEN);
    await settled();
    expect(done).toEqual([BROKEN]);
  });
});
