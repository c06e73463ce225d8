import { describe, expect, spyOn, test } from 'bun:test';
import { DECISION_REASONS, type DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import type { ByteStream, ByteStreamReader } from '../streams/byte-stream.ts';
import { STRANGERS } from '../connections/connections.ts';
import { fakeTurns } from '../fixtures/fake-turns.ts';
import { Http1Relay } from './relay.ts';
import { CLOSE_MS, LINGER_MS, PHASE_MS } from '../relays/relay-timer.ts';
import { AFTERWORD_BYTES } from '../relays/relay-end.ts';
import type { Judgement } from '../judge/judge.ts';

/** What a client can make a relay hold: bytes, requests, time. The streams are in memory, so that a test says when a peer reads. */

class MemoryStream implements ByteStream {
  written = '';
  isEnded = false;
  isAborted = false;
  /** How much is taken before `write` asks to wait. */
  room = Infinity;
  reader: ByteStreamReader | undefined;

  attach(reader: ByteStreamReader): void {
    this.reader = reader;
  }

  write(bytes: Uint8Array): boolean {
    this.written += Buffer.from(bytes).toString('latin1');
    return this.written.length <= this.room;
  }

  end(): void {
    this.isEnded = true;
  }

  abort(): void {
    this.isAborted = true;
  }

  pause(): void {
    // The test sends nothing meanwhile.
  }

  resume(): void {
    // Nor does it wait for this.
  }

  send(text: string): void {
    this.reader?.onData(Buffer.from(text, 'latin1'));
  }

  get answers(): number {
    return this.written.split('HTTP/1.1 ').length - 1;
  }
}

const GET = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n';

class Rig {
  readonly client = new MemoryStream();
  readonly application = new MemoryStream();
  readonly clock = new FakeClock();
  turns = fakeTurns(this.clock);
  readonly judged: DecisionHttpRequest[] = [];
  isAllowed = false;
  endsIdle = false;
  endsAtMs = Infinity;
  done = 0;
  relay: Http1Relay | undefined;

  start(application?: ByteStream): this {
    const relay = new Http1Relay({
      client: this.client,
      openApplication: () => Promise.resolve(this.application),
      judge: (http) => {
        this.judged.push(http);
        return this.#judgement();
      },
      whenKept: () => {
        throw new Error('Everything here is recorded at once');
      },
      refuse: () => this.#judgement(),
      clientCertLine: new Uint8Array(0),
      endsIdle: this.endsIdle,
      turns: this.turns,
      party: STRANGERS,
      clock: this.clock,
      endsAtMs: this.endsAtMs,
      onDone: () => (this.done += 1),
    });
    this.relay = relay;
    relay.start(new Uint8Array(0), application);
    return this;
  }

  #judgement(): Judgement {
    const reason = this.isAllowed ? 'policy_allow' : 'policy_deny';
    const { text } = DECISION_REASONS[reason];
    return {
      decisionId: crypto.randomUUID(),
      verdict: {
        isAllowed: this.isAllowed,
        reason,
        message: text,
        httpStatus: 403,
        policyVersion: 1,
        latencyUs: 1,
      },
    };
  }
}

describe('Http1Relay holds', () => {
  test('no more denials than a client reads: it decides on as it is read', () => {
    const { client, judged } = new Rig().start();
    client.room = 5000;
    client.send(GET.repeat(1000));
    expect(client.written.length).toBeLessThan(6000);
    const decided = judged.length;
    client.reader?.onDrain();
    expect(judged.length).toBe(decided + 1);
    expect(client.answers).toBe(judged.length);
  });

  test('the event loop for a bounded number of requests that one client sent at once', () => {
    const { client, judged, clock } = new Rig().start();
    client.send(GET.repeat(200));
    expect(judged.length).toBeLessThan(100);
    for (let turn = 0; turn < 200; turn++) clock.advance(0);
    expect(client.answers).toBe(200);
  });

  test('the event loop for a bounded time, where requests are dear to decide', () => {
    const { client, judged, clock } = new Rig().start();
    // Each decision takes 3 ms.
    const time = spyOn(clock, 'monotonicMs').mockImplementation(() => judged.length * 3);
    client.send(GET.repeat(7));
    expect(judged.length).toBe(1);
    clock.advance(0);
    expect(client.answers).toBe(7);
    time.mockRestore();
  });

  test('what comes after another connection has used up the turn, until the next one', () => {
    const [dear, other] = [new Rig().start(), new Rig()];
    other.turns = dear.turns;
    other.start();
    const time = spyOn(dear.clock, 'monotonicMs').mockImplementation(() => dear.judged.length * 6);
    dear.client.send(GET);
    other.client.send(GET.repeat(2));
    expect([dear.client.answers, other.judged.length]).toEqual([1, 0]);
    dear.clock.advance(0);
    expect(other.client.answers).toBe(2);
    time.mockRestore();
  });

  test('nothing back from a client that ended before its turn came', () => {
    const rig = new Rig().start();
    rig.client.send(GET.repeat(200));
    rig.client.reader?.onEnd();
    for (let turn = 0; turn < 200; turn++) rig.clock.advance(0);
    expect(rig.client.answers).toBe(200);
    expect(rig.client.isEnded).toBe(true);
  });
});

describe('Http1Relay waits without an application', () => {
  test('so long for a request, and for each next one, but no longer', () => {
    const { client, clock } = new Rig().start();
    clock.advance(PHASE_MS.idle - 1);
    client.send(GET);
    clock.advance(PHASE_MS.idle - 1);
    expect(client.isEnded).toBe(false);
    clock.advance(1);
    expect([client.isEnded, client.isAborted]).toEqual([true, false]);
    clock.advance(LINGER_MS);
    expect(client.isAborted).toBe(true);
  });

  test('a client that does not end in turn so long, and longer while it takes what is left', () => {
    const rig = new Rig();
    rig.isAllowed = true;
    rig.start(rig.application);
    const { client, application, clock } = rig;
    client.send(GET);
    application.send('HTTP/1.1 200 OK\r\n\r\nuntil the end');
    clock.advance(2 * CLOSE_MS);
    expect(client.isAborted).toBe(false);
    application.reader?.onEnd();
    clock.advance(CLOSE_MS - 1);
    client.reader?.onDrain();
    clock.advance(CLOSE_MS - 1);
    expect([client.isEnded, client.isAborted]).toEqual([true, false]);
    clock.advance(1);
    expect([client.isAborted, rig.done, clock.pending]).toEqual([true, 1, 0]);
  });

  test('a client that reads its answers while it is refused as long, and not if it goes on sending', () => {
    const rig = new Rig();
    rig.isAllowed = true;
    rig.start(rig.application);
    const { client, application, clock } = rig;
    client.send(GET);
    application.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    client.send('nonsense\r\n\r\n');
    expect([client.answers, client.isEnded]).toEqual([2, true]);
    clock.advance(LINGER_MS + CLOSE_MS - 1);
    client.send('x'.repeat(AFTERWORD_BYTES));
    expect(client.isAborted).toBe(false);
    client.send('x');
    expect([client.isAborted, rig.done, clock.pending]).toEqual([true, 1, 0]);
  });

  test('so long for the body of a refused request, however it is spread', () => {
    const { client, clock } = new Rig().start();
    client.send('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n');
    for (let elapsedMs = 0; elapsedMs < PHASE_MS.refused_body; elapsedMs += 1000) {
      expect(client.isEnded).toBe(false);
      client.send('x');
      clock.advance(1000);
    }
    expect(client.isEnded).toBe(true);
  });

  test('and leaves the time to an application that is connected', () => {
    const rig = new Rig();
    rig.start(rig.application);
    rig.clock.advance(100 * PHASE_MS.idle);
    expect(rig.client.isEnded).toBe(false);
    expect(rig.clock.pending).toBe(0);
  });
});

test('Http1Relay does not count the time of a head whose client is held back, because the application takes nothing, and counts it anew from then on', () => {
  const rig = new Rig();
  rig.isAllowed = true;
  rig.start(rig.application);
  const { client, application, clock } = rig;
  client.send('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n');
  // It is answered before its body was taken: the next head may begin behind that.
  application.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  application.room = 0;
  client.send('0123456789GET /y HT');
  clock.advance(10 * PHASE_MS.head);
  expect(client.isEnded).toBe(false);
  application.room = Infinity;
  application.reader?.onDrain();
  clock.advance(PHASE_MS.head - 1);
  expect(client.isEnded).toBe(false);
  clock.advance(1);
  expect([client.isEnded, client.written.includes('408')]).toEqual([true, true]);
});

describe('Http1Relay that ends who is idle', () => {
  const start = (): Rig => {
    const rig = new Rig();
    [rig.endsIdle, rig.isAllowed] = [true, true];
    return rig.start(rig.application);
  };

  test('waits so long for the first request, whatever is connected', () => {
    const { client, application, clock } = start();
    clock.advance(PHASE_MS.idle - 1);
    expect(client.isEnded).toBe(false);
    clock.advance(1);
    expect([client.isEnded, application.isEnded, client.isAborted]).toEqual([true, true, false]);
  });

  test('waits as long as it takes for an answer, and then so long for the next request', () => {
    const { client, application, clock } = start();
    client.send(GET);
    clock.advance(10 * PHASE_MS.idle);
    application.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    clock.advance(PHASE_MS.idle - 1);
    expect(client.isEnded).toBe(false);
    client.send(GET);
    application.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    clock.advance(PHASE_MS.idle);
    expect([client.isEnded, client.isAborted]).toEqual([true, false]);
  });
});

describe('Http1Relay before an end that it foresees', () => {
  const END_MS = 60_000;
  const HEAD =
    'HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\n';
  const LAST_HEAD = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n';

  function startAt(elapsedMs: number): Rig {
    const rig = new Rig();
    rig.isAllowed = true;
    rig.endsAtMs = rig.clock.monotonicMs() + END_MS;
    rig.start(rig.application);
    rig.clock.advance(elapsedMs);
    return rig;
  }

  test('lets answers pass as they are while it is far', () => {
    const { client, application } = startAt(END_MS - 10_000);
    client.send(GET);
    application.send(`${HEAD}ok`);
    expect([client.written, client.isEnded]).toEqual([`${HEAD}ok`, false]);
  });

  test('says of an answer near it that it is the last one, and ends in good order', () => {
    const { client, application, judged, clock } = startAt(END_MS - 1000);
    client.send(GET);
    application.send(`${HEAD}o`);
    expect([client.written, client.isEnded]).toEqual([`${LAST_HEAD}o`, false]);
    application.send('k');
    expect([client.written, client.isEnded, client.isAborted]).toEqual([`${LAST_HEAD}ok`, true, false]);
    client.send(GET);
    expect(judged).toHaveLength(1);
    clock.advance(END_MS);
    expect(client.isAborted).toBe(false);
  });

  test.each([
    ['near it', END_MS - 1000, () => undefined],
    ['where the agent goes', 0, ({ relay }: Rig) => relay?.retire()],
  ])('says of a denial %s that it is the last answer, and ends in good order', (_, elapsedMs, happens) => {
    const rig = startAt(elapsedMs);
    rig.isAllowed = false;
    happens(rig);
    rig.client.send(GET);
    expect(rig.client.written).toStartWith('HTTP/1.1 403 ');
    expect(rig.client.written).toContain('\r\nconnection: close\r\n');
    expect([rig.client.isEnded, rig.client.isAborted]).toEqual([true, false]);
    rig.client.send(GET);
    expect(rig.judged).toHaveLength(1);
  });

  test('does not end behind a denial while it is far', () => {
    const rig = startAt(END_MS - 10_000);
    rig.isAllowed = false;
    rig.client.send(GET.repeat(2));
    expect([rig.client.answers, rig.client.isEnded]).toEqual([2, false]);
  });

  test('says of the next answer that it is the last one where the agent goes, however far the end is', () => {
    const { client, application, relay } = startAt(0);
    client.send(GET);
    application.send(`${HEAD}ok`);
    relay?.retire();
    expect([client.written, client.isEnded]).toEqual([`${HEAD}ok`, false]);
    client.send(GET);
    application.send(`${HEAD}ok`);
    expect([client.written, client.isEnded]).toEqual([`${HEAD}ok${LAST_HEAD}ok`, true]);
  });

  test('lets an answer that began before it run on, and does not end within it', () => {
    const { client, application, clock } = startAt(END_MS - 10_000);
    client.send(GET);
    application.send(`${HEAD}o`);
    clock.advance(9_900);
    expect(client.isEnded).toBe(false);
    application.send('k');
    expect([client.written, client.isEnded]).toEqual([`${HEAD}ok`, false]);
  });

  test('leaves interim answers and a switch of protocols as they are', () => {
    const { client, application } = startAt(END_MS - 1000);
    client.send('GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n');
    const answers =
      'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n';
    application.send(answers);
    expect([client.written, client.isEnded]).toEqual([answers, false]);
  });

  test('ends a connection on which nobody asks, but not within a request', () => {
    const idle = startAt(END_MS - 600);
    expect(idle.client.isEnded).toBe(false);
    idle.clock.advance(200);
    expect([idle.client.isEnded, idle.client.isAborted]).toEqual([true, false]);
    const asking = startAt(END_MS - 600);
    asking.client.send(GET.slice(0, 9));
    asking.clock.advance(200);
    expect(asking.client.isEnded).toBe(false);
  });
});
