import { describe, expect, test } from 'bun:test';
import { HandshakePlaces } from './handshake-places.ts';

const MAX_OF_ONE = 16;
const never = new AbortController().signal;

function fill(places: HandshakePlaces, asker: string): (() => void)[] {
  return Array.from({ length: MAX_OF_ONE }, () => places.tryEnter(asker)).filter(
    (leave) => leave !== undefined,
  );
}

describe('HandshakePlaces', () => {
  test('leaves others their share, and gives nobody more than there is', () => {
    const places = new HandshakePlaces();
    expect(fill(places, 'greedy')).toHaveLength(MAX_OF_ONE);
    expect(places.tryEnter('greedy')).toBeUndefined();
    for (const asker of ['b', 'c', 'd']) expect(fill(places, asker)).toHaveLength(MAX_OF_ONE);
    expect(places.tryEnter('e')).toBeUndefined();
  });

  test('lets those who wait in as soon as there is a place, in the order in which they came', async () => {
    const places = new HandshakePlaces();
    const [leave] = fill(places, 'greedy');
    const entered: string[] = [];
    const wait = async (name: string): Promise<void> => {
      const leaveAgain = await places.enter('greedy', never);
      entered.push(name);
      leaveAgain?.();
    };
    const waiting = Promise.all([wait('first'), wait('second')]);
    expect(await places.enter('web', never)).toBeFunction();
    expect(entered).toEqual([]);
    leave?.();
    await waiting;
    expect(entered).toEqual(['first', 'second']);
  });

  test('forgets who waits no more', async () => {
    const places = new HandshakePlaces();
    const [leave] = fill(places, 'greedy');
    const patience = new AbortController();
    const waiting = places.enter('greedy', patience.signal);
    patience.abort();
    expect(await waiting).toBeUndefined();
    expect(await places.enter('greedy', patience.signal)).toBeUndefined();
    leave?.();
    expect(places.tryEnter('greedy')).toBeFunction();
  });
});
