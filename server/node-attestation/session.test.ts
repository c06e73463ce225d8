import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  ATTESTATION_SESSION_MS,
  AttestationSessions,
  MAX_ATTESTATION_SESSIONS,
  MAX_SESSIONS_PER_SUBJECT,
} from './session.ts';

const open = () => {
  const clock = new FakeClock();
  return { clock, sessions: new AttestationSessions<string>({ clock, random: randomBytes }) };
};

describe('AttestationSessions', () => {
  test('take() gives what was kept once', () => {
    const { sessions } = open();
    const id = sessions.open('kept', { subject: 'a' });
    expect(sessions.take(id)).toBe('kept');
    expect(reasonOf(() => sessions.take(id))).toBe('session_unknown');
  });

  test('open() names sessions by 32 random bytes', () => {
    const { sessions } = open();
    const ids = Array.from({ length: MAX_SESSIONS_PER_SUBJECT }, () => sessions.open('', { subject: 'a' }));
    for (const id of ids) expect(Buffer.from(id, 'base64url').length).toBe(32);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('take() refuses ids that nobody got', () => {
    const { sessions } = open();
    sessions.open('kept', { subject: 'a' });
    for (const id of ['', '__proto__', randomBytes(32).toString('base64url')])
      expect(reasonOf(() => sessions.take(id))).toBe('session_unknown');
  });

  test('a session ends after a minute, to the millisecond', () => {
    const { clock, sessions } = open();
    const first = sessions.open('first', { subject: 'a' });
    clock.advance(1);
    const second = sessions.open('second', { subject: 'a' });
    clock.advance(ATTESTATION_SESSION_MS - 1);
    expect(reasonOf(() => sessions.take(first))).toBe('session_unknown');
    expect(sessions.size).toBe(1);
    expect(sessions.take(second)).toBe('second');
  });

  test('a jump of the wall clock neither ends nor prolongs a session', () => {
    const { clock, sessions } = open();
    const [first, second] = [
      sessions.open('first', { subject: 'a' }),
      sessions.open('second', { subject: 'a' }),
    ];
    clock.jump(86_400_000);
    expect(sessions.take(first)).toBe('first');
    clock.jump(-2 * 86_400_000);
    clock.advance(ATTESTATION_SESSION_MS);
    expect(reasonOf(() => sessions.take(second))).toBe('session_unknown');
  });

  test('the oldest of a subject that has too many gives way, and no other', () => {
    const { sessions } = open();
    const other = sessions.open('other', { subject: 'b' });
    const ids = Array.from({ length: MAX_SESSIONS_PER_SUBJECT + 1 }, () =>
      sessions.open('', { subject: 'a' }),
    );
    expect(reasonOf(() => sessions.take(ids[0] ?? ''))).toBe('session_unknown');
    for (const id of [...ids.slice(1), other]) expect(reasonOf(() => sessions.take(id))).toBeUndefined();
    expect(sessions.size).toBe(0);
  });

  test('the oldest of the subject that has the most gives way when there are too many in all', () => {
    const { sessions } = open();
    const first = sessions.open('first', { subject: 'honest' });
    const claimed = [0, 1].map(() => sessions.open('', { subject: 'claimed' }));
    for (let n = 3; n <= MAX_ATTESTATION_SESSIONS; n++) sessions.open('', { subject: String(n) });
    expect(sessions.size).toBe(MAX_ATTESTATION_SESSIONS);
    expect(reasonOf(() => sessions.take(claimed[0] ?? ''))).toBe('session_unknown');
    expect(sessions.take(first)).toBe('first');
  });
});
