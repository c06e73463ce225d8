import { beforeEach, describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { CATCH_UP_MS, Predecessor, type HandoverChannel } from './predecessor.ts';

let clock: FakeClock;
let sent: string[];
let last: unknown;
let hear: (message: unknown) => void;
let end: () => void;
let predecessor: Predecessor;

beforeEach(() => {
  clock = new FakeClock();
  sent = [];
  const channel: HandoverChannel = {
    send: (message) => {
      sent.push(message.type);
      last = message;
    },
    onMessage: (listener) => (hear = listener),
    onEnd: (listener) => (end = listener),
    close: () => undefined,
  };
  predecessor = new Predecessor(channel, clock);
});

const at = (cursor: number) => ({ position: { epoch: 'e', cursor } });
const told = (cursor: number) => new WatchedValue(at(cursor));

describe('Predecessor', () => {
  test('takes sockets by their names, waits for its turn, and tells how the other drains until that ends', async () => {
    const taking = predecessor.takeSockets('2.0.0');
    hear({ type: 'handover', version: '1.0.0', sockets: [{ name: 'tcp :: 15008', fd: 3 }] });
    expect([...(await taking)]).toEqual([['tcp :: 15008', 3]]);
    const turn = predecessor.awaitTurn({ isConnected: true, sync: told(5) });
    hear({ type: 'go' });
    await turn;
    predecessor.serving();
    expect(sent).toEqual(['hello', 'prepared', 'serving']);
    const retired: string[] = [];
    predecessor.whenRetired(() => retired.push('sockets'));
    predecessor.whenRetired(() => retired.push('namespaces'));
    expect(retired).toEqual([]);
    for (let told = 0; told < 2; told++)
      hear({ type: 'draining', connections: 2, endsAt: '2026-11-24T10:00:00.000Z' });
    predecessor.whenRetired(() => retired.push('late'));
    expect(retired).toEqual(['sockets', 'namespaces', 'late']);
    expect(predecessor.draining).toEqual({
      version: '1.0.0',
      connections: 2,
      endsAt: '2026-11-24T10:00:00.000Z',
    });
    let [gone, lost] = [0, 0];
    predecessor.whenGone(() => (gone += 1));
    predecessor.whenLost(() => (lost += 1));
    end();
    expect([predecessor.draining, gone, lost]).toEqual([undefined, 1, 0]);
    predecessor.whenGone(() => (gone += 1));
    expect(gone).toBe(2);
  });

  test('says how far it has heard the server: once it has caught up, and otherwise in a while', async () => {
    const sync = told(5);
    const turn = predecessor.awaitTurn({ isConnected: true, sync });
    expect(last).toEqual({ type: 'prepared', isCurrent: true, ...at(5) });
    hear({ type: 'catch_up', ...at(7) });
    sync.set(at(6));
    expect(sent).toEqual(['prepared']);
    sync.set(at(7));
    expect([last, clock.pending]).toEqual([{ type: 'heard', ...at(7) }, 1]);
    sync.set(at(8));
    hear({ type: 'catch_up', ...at(7) });
    expect([last, sent.length]).toEqual([{ type: 'heard', ...at(8) }, 3]);
    hear({ type: 'catch_up', position: { epoch: 'another', cursor: 1 } });
    expect(sent).toHaveLength(3);
    clock.advance(CATCH_UP_MS);
    expect(sent).toHaveLength(4);
    hear({ type: 'go' });
    await turn;
    predecessor.serving();
    expect(last).toEqual({ type: 'serving', ...at(8) });
  });

  test.each([
    ['has ended', () => end()],
    ['says something else', () => hear({ type: 'go' })],
    ['says nothing in time', () => clock.advance(30_000)],
  ])('does not take over where the other %s', async (_, happens) => {
    const taking = refusalOf(predecessor.takeSockets('2.0.0'));
    happens();
    expect(await taking).toMatchObject({ code: 'unavailable', reason: 'incumbent_gone' });
    expect(clock.pending).toBe(0);
  });

  test('believes no message that is not of the list, and says nothing to one that has ended', async () => {
    const taking = predecessor.takeSockets('2.0.0');
    for (const nonsense of [null, 7, {}, { type: 'handover', version: '1', sockets: [{ name: 'a', fd: 0 }] }])
      hear(nonsense);
    hear({ type: 'handover', version: '1.0.0', sockets: [] });
    expect((await taking).size).toBe(0);
    end();
    predecessor.failed(new Error('late'));
    expect(sent).toEqual(['hello']);
  });

  test('does not serve in the place of one that ended before, and hears of one that ends before it gave way, as of nothing else', () => {
    const heard: string[] = [];
    predecessor.whenRetired(() => heard.push('retired'));
    predecessor.whenGone(() => heard.push('gone'));
    predecessor.whenLost(() => heard.push('lost'));
    predecessor.serving();
    end();
    expect(heard).toEqual(['lost']);
    expect(() => predecessor.serving()).toThrow(/has ended/);
  });
});
