import { describe, expect, test } from 'bun:test';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { Spares, type SpareEvent, type SpareLimits, type SpareRoute } from './spares.ts';

const MINUTE_MS = 60_000;
const REST_MS = 30_000;
/** How many openings make a key busy. */
const BUSY_USES = 3;

interface Connection {
  readonly key: string;
}

/** A pool whose connections come about when the test says so. */
class Rig {
  readonly clock = new FakeClock();
  readonly events: SpareEvent[] = [];
  readonly idle: Connection[] = [];
  readonly asked: { readonly key: string; readonly answer: (isWell: boolean) => void }[] = [];
  isFull = false;
  readonly spares: Spares<Connection>;

  constructor(limits: Partial<SpareLimits> = {}) {
    this.spares = new Spares<Connection>({
      limits: { maxSparesPerKey: 1, maxSpares: 100, ...limits },
      clock: this.clock,
      countIdle: (key) => (this.isFull ? Infinity : this.idle.filter((one) => one.key === key).length),
      connect: async ({ key }) =>
        await new Promise((resolve) => {
          this.asked.push({ key, answer: (isWell) => resolve(isWell ? { key } : undefined) });
        }),
      keep: (_key, connection) => void this.idle.push(connection),
      onEvent: (what) => this.events.push(what),
    });
  }

  use(key: string, times = BUSY_USES, caller = 'web'): void {
    for (let i = 0; i < times; i++) this.spares.used(routeOf(key, caller));
  }

  /** Answers what was asked for and is not answered yet. */
  async answer(isWell = true): Promise<void> {
    for (const { answer } of this.asked.splice(0)) answer(isWell);
    await Bun.sleep(0);
  }

  take(): Connection {
    const connection = this.idle.pop()!;
    this.spares.taken(connection, 'taken');
    return connection;
  }
}

function routeOf(key: string, caller = 'web'): SpareRoute {
  return {
    key,
    caller: { spiffeId: parseSpiffeId(`spiffe://td.test/${caller}`), chainPem: caller },
    target: parseSpiffeId('spiffe://td.test/billing'),
    at: { address: '192.0.2.1', port: 15_008 },
  };
}

describe('Spares', () => {
  test('used() makes one for a key at its third opening in a minute, and none for others', async () => {
    const rig = new Rig();
    rig.use('a', BUSY_USES - 1);
    rig.use('b', 1);
    expect(rig.asked).toEqual([]);
    rig.use('a', 1);
    rig.use('a');
    expect(rig.asked.map(({ key }) => key)).toEqual(['a']);
    await rig.answer();
    expect(rig.events).toEqual(['made']);
    rig.use('a');
    expect(rig.asked).toEqual([]);
  });

  test('used() makes none for openings that come slowly', () => {
    const rig = new Rig();
    for (let i = 0; i < 10; i++) {
      rig.use('a', 1);
      rig.clock.advance(MINUTE_MS / 2);
    }
    expect(rig.asked).toEqual([]);
  });

  test('one that was taken is made good by the opening that took it', async () => {
    const rig = new Rig();
    rig.use('a');
    await rig.answer();
    rig.take();
    rig.use('a', 1);
    expect(rig.asked).toHaveLength(1);
    await rig.answer();
    expect(rig.events).toEqual(['made', 'taken', 'made']);
  });

  test('refill() makes them anew for busy keys, and none once the traffic has ended', async () => {
    const rig = new Rig();
    rig.use('a');
    await rig.answer();
    rig.spares.taken(rig.idle.pop()!, 'unused');
    rig.spares.refill();
    expect(rig.asked).toHaveLength(1);
    await rig.answer();
    rig.spares.taken(rig.idle.pop()!, 'unused');
    rig.clock.advance(MINUTE_MS);
    rig.spares.refill();
    expect([rig.asked, rig.clock.pending]).toEqual([[], 0]);
    expect(rig.events).toEqual(['made', 'unused', 'made', 'unused']);
  });

  test('a key whose spare the other host sent away, or did not take, rests however busy it is', async () => {
    const rig = new Rig();
    rig.use('a');
    await rig.answer();
    rig.spares.gone(rig.idle.pop()!);
    rig.clock.advance(REST_MS - 1);
    rig.use('a');
    rig.spares.refill();
    expect(rig.asked).toEqual([]);
    rig.clock.advance(1);
    rig.use('a', 1);
    await rig.answer(false);
    rig.use('a');
    expect(rig.asked).toEqual([]);
    rig.clock.advance(REST_MS);
    rig.use('a');
    expect(rig.asked).toHaveLength(1);
    expect(rig.events).toEqual(['made', 'unused', 'failed']);
  });

  test('the end of one that was taken is nothing to it', async () => {
    const rig = new Rig();
    rig.use('a');
    await rig.answer();
    rig.spares.gone(rig.take());
    rig.use('a', 1);
    expect([rig.asked.length, rig.events]).toEqual([1, ['made', 'taken']]);
  });

  test('keeps to its number of a key, counting those that are being set up and all that are idle', async () => {
    const rig = new Rig({ maxSparesPerKey: 3 });
    rig.idle.push({ key: 'a' });
    rig.use('a');
    expect(rig.asked).toHaveLength(2);
    await rig.answer();
    rig.use('a');
    expect([rig.asked.length, rig.idle.length]).toEqual([0, 3]);
  });

  test('makes none where the pool is full, and none at all at 0', () => {
    const full = new Rig();
    full.isFull = true;
    full.use('a');
    const none = new Rig({ maxSparesPerKey: 0 });
    none.use('a');
    none.spares.refill();
    expect([full.asked, none.asked]).toEqual([[], []]);
  });

  test('a caller of many keys leaves spares to others, and gets its own again when they end', async () => {
    const rig = new Rig({ maxSpares: 16 });
    for (let i = 0; i < 100; i++) {
      rig.use(`${i}`);
      await rig.answer();
    }
    expect(rig.idle).toHaveLength(12);
    rig.use('other', BUSY_USES, 'reports');
    await rig.answer();
    expect(rig.idle.at(-1)).toEqual({ key: 'other' });
    for (const connection of rig.idle.splice(0)) rig.spares.taken(connection, 'unused');
    rig.use('99', 1);
    await rig.answer();
    expect(rig.idle).toEqual([{ key: '99' }]);
  });

  test('sets up few at once, and the rest after them', async () => {
    const rig = new Rig();
    for (let i = 0; i < 20; i++) rig.use(`${i}`);
    expect(rig.asked).toHaveLength(8);
    for (let i = 0; i < 3; i++) await rig.answer();
    expect(new Set(rig.idle.map(({ key }) => key)).size).toBe(20);
  });

  test('forgets the keys used longest ago beyond a thousand', () => {
    const rig = new Rig();
    rig.use('first', BUSY_USES - 1);
    for (let i = 0; i < 1024; i++) rig.use(`${i}`, 1);
    rig.use('first', 1);
    expect(rig.asked).toEqual([]);
  });

  test('stop() makes none any more, not even those that waited', async () => {
    const rig = new Rig();
    for (let i = 0; i < 20; i++) rig.use(`${i}`);
    rig.spares.stop();
    await rig.answer();
    rig.use('a');
    rig.spares.refill();
    expect(rig.asked).toEqual([]);
  });
});
