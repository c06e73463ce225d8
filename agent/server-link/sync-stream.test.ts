import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import type { Http2ServerResponse } from 'node:http2';
import { PicketError } from '../../shared/errors/errors.ts';
import { MAX_SYNC_LINE_BYTES } from '../../shared/protocol/sync.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { ScriptedServer } from './fixtures/scripted-server.ts';
import type { SyncPosition, SyncUpdate } from './sync-state.ts';
import { MAX_SILENCE_MS, SyncStream } from './sync-stream.ts';

let server: ScriptedServer;
let rig: Rig;

/** A stream to a scripted server, on a clock of its own. */
class Rig {
  readonly clock = new FakeClock();
  readonly applied: SyncUpdate[] = [];
  readonly events: string[] = [];
  /** Where each stream was resumed. */
  readonly opened: (SyncPosition | undefined)[] = [];
  /** The server's side of each stream. */
  readonly answers: Http2ServerResponse[] = [];
  isRefusing = false;
  readonly stream: SyncStream;

  constructor() {
    server.handler = (_request, response) => {
      response.stream.respond({ ':status': 200 });
      this.answers.push(response);
    };
    this.stream = new SyncStream({
      open: async (resumeFrom) => {
        this.opened.push(resumeFrom);
        const connection = await server.connect();
        return await connection.send({ method: 'GET', path: '/v1/sync' });
      },
      position: () => {
        const last = this.applied.at(-1);
        return last === undefined ? undefined : { epoch: last.epoch, cursor: last.cursor };
      },
      apply: (update) => {
        if (this.isRefusing) throw new PicketError('unavailable', 'sync_refused', 'Nonsense');
        this.applied.push(update);
      },
      clock: this.clock,
      random: () => 0,
      log: createLog({
        level: 'debug',
        nowMs: () => 0,
        write: (line) => this.events.push((JSON.parse(line) as { readonly event: string }).event),
      }),
    });
    this.stream.start();
  }

  /** Waits for the `count`th stream. */
  async answer(count: number): Promise<Http2ServerResponse> {
    return await waitUntil(`there is stream ${count}`, () => this.answers[count - 1]);
  }

  /** Waits until the stream was lost, and lets the retry come. */
  async retry(count: number): Promise<Http2ServerResponse> {
    const lost = (): number => this.events.filter((event) => event === 'sync_interrupted').length;
    await waitUntil('the end is noticed', () => lost() >= count - 1);
    await waitUntil('it waits', () => {
      this.clock.advance(1000);
      return this.answers.length >= count;
    });
    return await this.answer(count);
  }
}

const line = (cursor: number): string =>
  `${JSON.stringify({ kind: 'changes', epoch: 'e', cursor, changes: [] })}\n`;
const PING = '{"kind":"ping"}\n';

beforeEach(async () => {
  server = await ScriptedServer.start();
  rig = new Rig();
});
afterEach(async () => {
  await rig.stream.stop();
  server.stop();
});

describe('SyncStream', () => {
  test('applies what comes, also in pieces, and is live from the first message on', async () => {
    const answer = await rig.answer(1);
    expect(rig.stream.isLive).toBe(false);
    answer.write(line(1).slice(0, 10));
    answer.write(`${line(1).slice(10)}${line(2)}${PING}`);
    await waitUntil('both are applied', () => rig.applied.length === 2);
    expect(rig.stream.isLive).toBe(true);
    expect(rig.stream.lastHeardMs).toBe(rig.clock.nowMs());
    expect(rig.opened).toEqual([undefined]);
  });

  test('resumes where it stood when the server ends the stream', async () => {
    (await rig.answer(1)).end(line(7));
    await rig.retry(2);
    expect(rig.opened).toEqual([undefined, { epoch: 'e', cursor: 7 }]);
    expect(rig.stream.isLive).toBe(false);
  });

  test('resumes where it stood when the connection breaks', async () => {
    (await rig.answer(1)).write(line(7));
    await waitUntil('it is applied', () => rig.applied.length === 1);
    server.cut();
    await rig.retry(2);
    expect(rig.opened.at(-1)).toEqual({ epoch: 'e', cursor: 7 });
  });

  test('dials again after 30 s of silence, not after 30 s with pings', async () => {
    const answer = await rig.answer(1);
    for (let i = 0; i < 4; i++) {
      const heard = rig.stream.lastHeardMs;
      rig.clock.advance(MAX_SILENCE_MS - 1000);
      answer.write(PING);
      await waitUntil('the ping is heard', () => rig.stream.lastHeardMs !== heard);
    }
    expect(rig.answers.length).toBe(1);
    rig.clock.advance(MAX_SILENCE_MS);
    await rig.retry(2);
  });

  test('asks for everything after nonsense', async () => {
    const answer = await rig.answer(1);
    answer.write(line(1));
    await waitUntil('it is applied', () => rig.applied.length === 1);
    rig.isRefusing = true;
    answer.write(line(2));
    const next = await rig.retry(2);
    expect(rig.opened.at(-1)).toBeUndefined();
    rig.isRefusing = false;
    next.end(line(3));
    await rig.retry(3);
    expect(rig.opened.at(-1)).toEqual({ epoch: 'e', cursor: 3 });
  });

  test('asks for everything after a line that is too long to be taken', async () => {
    const answer = await rig.answer(1);
    answer.write(line(1));
    await waitUntil('it is applied', () => rig.applied.length === 1);
    const part = Buffer.alloc(1024 * 1024, 'a');
    for (let sent = 0; sent <= MAX_SYNC_LINE_BYTES; sent += part.length) answer.write(part);
    await rig.retry(2);
    expect(rig.opened).toEqual([undefined, undefined]);
  });

  test.each(['not json\n', '{"kind":"other"}\n', '[]\n', '\n', '{"kind":"changes","epoch":"e"}\n'])(
    'asks for everything after %p',
    async (bad) => {
      const answer = await rig.answer(1);
      answer.write(line(1));
      answer.write(bad);
      await rig.retry(2);
      expect(rig.opened).toEqual([undefined, undefined]);
    },
  );

  test('waits longer and longer while streams do not last', async () => {
    const waits: number[] = [];
    for (let count = 1; count <= 4; count++) {
      (await rig.answer(count)).end();
      await waitUntil('the end is noticed', () => rig.events.length === count && rig.clock.pending > 0);
      const beforeMs = rig.clock.monotonicMs();
      await waitUntil('it dials again', () => {
        if (rig.opened.length > count) return true;
        rig.clock.advance(50);
        return false;
      });
      waits.push(rig.clock.monotonicMs() - beforeMs);
    }
    expect(waits).toEqual(waits.toSorted((a, b) => a - b));
    expect(waits.at(-1)).toBeGreaterThanOrEqual(800);
  });

  test('redial() opens another stream at once', async () => {
    (await rig.answer(1)).write(line(4));
    await waitUntil('it is applied', () => rig.applied.length === 1);
    rig.stream.redial();
    await rig.answer(2);
    expect(rig.opened.at(-1)).toEqual({ epoch: 'e', cursor: 4 });
    expect(rig.events).not.toContain('sync_interrupted');
  });

  test('stop() ends it for good', async () => {
    await rig.answer(1);
    await rig.stream.stop();
    rig.clock.advance(100_000);
    expect(rig.answers.length).toBe(1);
  });
});
