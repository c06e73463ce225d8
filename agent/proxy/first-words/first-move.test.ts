import { beforeEach, describe, expect, test } from 'bun:test';
import { classifyFirstBytes } from '../../../shared/wire/http1-detect.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import { ScriptedStream, settled } from '../fixtures/scripted-stream.ts';
import { awaitFirstMove, type FirstMove } from './first-move.ts';

const SILENCE_MS = 10_000;

let clock: FakeClock;
let client: ScriptedStream;
let application: ScriptedStream;
let move: FirstMove | undefined;

beforeEach(() => {
  [clock, client, application, move] = [
    new FakeClock(),
    new ScriptedStream(),
    new ScriptedStream(),
    undefined,
  ];
});

async function start(options: { readonly hasApplication: boolean }): Promise<void> {
  const listened = options.hasApplication ? { application } : {};
  const detection = { clock, silenceMs: SILENCE_MS, classify: classifyFirstBytes };
  void awaitFirstMove({ client, ...listened, ...detection }).then((made) => (move = made));
  await settled();
}

/** A move with its bytes as text. */
function told(made: FirstMove | undefined): unknown {
  const entries = Object.entries(made ?? {}).map(([key, value]) => [
    key,
    value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : (value as unknown),
  ]);
  return Object.fromEntries(entries);
}

async function says(text: string): Promise<void> {
  client.says(text);
  await settled();
}

for (const hasApplication of [false, true])
  describe(`awaitFirstMove() with the application ${hasApplication ? 'connected' : 'not touched'}`, () => {
    beforeEach(async () => await start({ hasApplication }));

    test('knows HTTP/1.1 by its request line, in pieces too', async () => {
      await says('GE');
      expect(move).toBeUndefined();
      await says('T /invoices HTTP/1.1\r\n');
      expect(told(move)).toEqual({ kind: 'http1', bytes: 'GET /invoices HTTP/1.1\r\n' });
      expect(client.isPaused).toBe(true);
      expect(clock.pending).toBe(0);
    });

    test('knows HTTP/2 by its preface', async () => {
      await says('PRI * HTTP/2.0\r\n\r\nSM\r\n');
      expect(move).toBeUndefined();
      await says('\r\n\0\0\0\x04');
      expect(told(move)).toEqual({
        kind: 'http2',
        bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04',
        spoken: '',
      });
    });

    test('knows other bytes as soon as they cannot become a request', async () => {
      await says('\x16\x03\x01');
      expect(told(move)).toEqual({ kind: 'bytes', bytes: '\x16\x03\x01', spoken: '' });
    });

    test('gives up a client that stops within what may become a request', async () => {
      await says('GET');
      clock.advance(SILENCE_MS - 1);
      await settled();
      expect(move).toBeUndefined();
      clock.advance(1);
      await settled();
      expect(told(move)).toEqual({ kind: 'silence', bytes: 'GET' });
    });

    test('does not give a client that trickles more time', async () => {
      await says('G');
      clock.advance(SILENCE_MS / 2);
      await says('E');
      clock.advance(SILENCE_MS / 2);
      await settled();
      expect(told(move)).toEqual({ kind: 'silence', bytes: 'GE' });
    });

    test('tells that the client ended, with what it had said', async () => {
      await says('GET');
      client.ends();
      await settled();
      expect(told(move)).toEqual({ kind: 'end', bytes: 'GET' });
    });

    test('tells that the connection broke', async () => {
      client.closes({ message: 'reset' });
      await settled();
      expect(move).toEqual({ kind: 'broken', failure: { message: 'reset' } });
    });

    test('leaves what comes later to the next reader', async () => {
      await says('\0');
      await says('later');
      const reader = new CollectingReader();
      client.attach(reader);
      client.resume();
      await settled();
      expect(reader.text).toBe('later');
    });
  });

describe('awaitFirstMove() with the application not touched', () => {
  test('gives up a client that says nothing at all', async () => {
    await start({ hasApplication: false });
    clock.advance(SILENCE_MS);
    await settled();
    expect(told(move)).toEqual({ kind: 'silence', bytes: '' });
  });
});

describe('awaitFirstMove() with the application connected', () => {
  beforeEach(async () => await start({ hasApplication: true }));

  test('waits for whoever speaks first, however long', async () => {
    clock.advance(100 * SILENCE_MS);
    await settled();
    expect([move, clock.pending]).toEqual([undefined, 0]);
    application.says('220 welcome\r\n');
    await settled();
    expect(told(move)).toEqual({ kind: 'application', bytes: '', spoken: '220 welcome\r\n' });
    expect([client.isPaused, application.isPaused]).toEqual([true, true]);
  });

  test('lets no server of HTTP/2 speak before its client, whose requests are decided', async () => {
    const settings = '\0\0\0\x04\0\0\0\0\0';
    application.says(settings);
    application.says('more');
    await settled();
    clock.advance(100 * SILENCE_MS);
    await settled();
    expect(move).toBeUndefined();
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
    await says(preface);
    expect(told(move)).toEqual({ kind: 'http2', bytes: preface, spoken: `${settings}more` });
  });

  test('passes on what only looked like HTTP/2', async () => {
    const settings = '\0\0\0\x04\0\0\0\0\0';
    application.says(settings);
    await says('\x16');
    expect(told(move)).toEqual({ kind: 'bytes', bytes: '\x16', spoken: settings });
  });

  test('keeps what the client had begun to say when the application interrupts it', async () => {
    await says('HE');
    application.says('hi');
    await settled();
    expect(told(move)).toEqual({ kind: 'application', bytes: 'HE', spoken: 'hi' });
  });

  test('tells that the application ended or broke', async () => {
    application.ends();
    await settled();
    expect(told(move)).toEqual({ kind: 'application', bytes: '', spoken: '' });
    [client, application, move] = [new ScriptedStream(), new ScriptedStream(), undefined];
    await start({ hasApplication: true });
    application.closes({ message: 'gone' });
    await settled();
    expect(told(move)).toEqual({ kind: 'broken', failure: { message: 'gone' } });
  });
});
