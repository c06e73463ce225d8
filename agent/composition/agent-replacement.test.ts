import { expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { Predecessor } from '../handover/predecessor.ts';
import { AgentReplacement } from './agent-replacement.ts';

test('AgentReplacement.run() refuses from the start of a process that takes over until the agent before it has ended', async () => {
  const clock = new FakeClock();
  let hear: (message: unknown) => void = () => undefined;
  let end: () => void = () => undefined;
  const predecessor = new Predecessor(
    {
      send: () => undefined,
      onMessage: (listener) => (hear = listener),
      onEnd: (listener) => (end = listener),
      close: () => undefined,
    },
    clock,
  );
  const replacement = new AgentReplacement({
    version: '2.0.0',
    successorCommand: ['/bin/false'],
    predecessor,
    drainMs: 1000,
    clock,
    log: createLog({ level: 'error', nowMs: Date.now, write: () => undefined }),
  });
  const reason = async (): Promise<string> => (await refusalOf(replacement.run())).reason;
  expect(await reason()).toBe('upgrade_under_way');
  hear({ type: 'go' });
  predecessor.serving();
  expect(await reason()).toBe('upgrade_under_way');
  hear({ type: 'draining', connections: 2, endsAt: '2026-11-24T10:00:00.000Z' });
  const { message } = await refusalOf(replacement.run());
  expect([await reason(), message.includes('2 connections')]).toEqual(['upgrade_under_way', true]);
  end();
  // This one was not let begin yet.
  expect(await reason()).toBe('agent_starting');
});
