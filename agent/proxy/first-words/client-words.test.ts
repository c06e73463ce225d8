import { beforeEach, describe, expect, spyOn, test } from 'bun:test';
import { connect } from 'node:tls';
import { Duplex } from 'node:stream';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { awaitClientWords, type ClientWords } from './client-words.ts';
import { ScriptedStream } from '../fixtures/scripted-stream.ts';

const WITHIN_MS = 10_000;

let clock: FakeClock;
let client: ScriptedStream;

beforeEach(() => {
  clock = new FakeClock();
  client = new ScriptedStream();
});

async function listen(): Promise<ClientWords> {
  return await awaitClientWords(client, { clock, withinMs: WITHIN_MS });
}

/** The ClientHello of Node's own TLS client. */
async function hello(options: {
  readonly servername?: string;
  readonly ALPNProtocols?: string[];
}): Promise<string> {
  return await new Promise((resolve) => {
    const transport = new Duplex({
      read: () => undefined,
      write: (bytes: Buffer) => resolve(bytes.toString('latin1')),
    });
    connect({ socket: transport, rejectUnauthorized: false, ...options }).on('error', () => undefined);
  });
}

describe('awaitClientWords()', () => {
  test('hears the name and the offers of a ClientHello, in however many pieces it comes', async () => {
    const bytes = await hello({ servername: 'api.test', ALPNProtocols: ['h2', 'http/1.1'] });
    const words = listen();
    for (const byte of bytes) client.says(byte);
    expect(await words).toEqual({
      kind: 'tls',
      bytes: Buffer.from(bytes, 'latin1'),
      tls: { serverName: 'api.test', alpn: ['h2', 'http/1.1'] },
    });
    expect([client.isPaused, clock.pending]).toEqual([true, 0]);
  });

  test('hears a hello that names nobody', async () => {
    const words = listen();
    client.says(await hello({}));
    expect(await words).toMatchObject({ kind: 'tls', tls: { serverName: '', alpn: [] } });
  });

  test('hears a request in however many pieces it comes', async () => {
    const bytes = 'GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n';
    const words = listen();
    for (const byte of bytes) client.says(byte);
    expect(await words).toMatchObject({
      kind: 'http1',
      bytes: Buffer.from(bytes),
      head: { host: 'api.test' },
    });
  });

  test('reads no line of a head twice, however many short ones there are', async () => {
    const lines = 15_000;
    const words = listen();
    client.says(`GET / HTTP/1.1\r\n${'a:\r\n'.repeat(lines)}`);
    const indexOf = spyOn(Buffer.prototype, 'indexOf');
    try {
      for (let i = 0; i < 100; i++) client.says('a');
      // Each piece is looked through once.
      expect(indexOf.mock.calls.length).toBeLessThan(lines);
    } finally {
      indexOf.mockRestore();
    }
    client.says('a'.repeat(64 * 1024));
    expect(await words).toMatchObject({ kind: 'http1', head: undefined });
  });

  test('hears whom a request is for, and keeps all that came', async () => {
    const words = listen();
    client.says('POST /a HTTP/1.1\r\nHost: api.te');
    client.says('st\r\nContent-Length: 3\r\n\r\nabc');
    const heard = await words;
    expect(heard).toMatchObject({ kind: 'http1', head: { host: 'api.test', method: 'POST' } });
    expect(Buffer.from((heard as { bytes: Uint8Array }).bytes).toString()).toEndWith('\r\n\r\nabc');
  });

  test.each([
    'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
    'GET / HTTP/1.1\nHost: a\n\n',
    `GET /${'a'.repeat(66_000)}`,
  ])('leaves a request that cannot be read in one way to who refuses it', async (text) => {
    const words = listen();
    client.says(text);
    expect(await words).toMatchObject({ kind: 'http1', head: undefined });
  });

  test.each([
    'SSH-2.0-OpenSSH\r\n',
    '\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00',
    '\x16\x04',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ])('takes %p for words that name nobody', async (text) => {
    const words = listen();
    client.says(text);
    expect(await words).toEqual({ kind: 'nothing' });
  });

  test('a hello without end is not waited for beyond its longest', async () => {
    const words = listen();
    const record = `\x16\x03\x01\x40\x00`;
    client.says(`${record}\x01\x00\x3f\xff${'x'.repeat(16_000)}`);
    client.says('x'.repeat(1000));
    expect(await words).toEqual({ kind: 'nothing' });
  });

  test('does not wait longer than it may, for silence or for a drop now and then', async () => {
    const silent = listen();
    clock.advance(WITHIN_MS);
    expect(await silent).toEqual({ kind: 'nothing' });
    client = new ScriptedStream();
    const slow = listen();
    for (const letter of 'GET / HTT') {
      client.says(letter);
      clock.advance(WITHIN_MS / 5);
    }
    expect(await slow).toEqual({ kind: 'nothing' });
  });

  test('tells of a client that ended or broke', async () => {
    const ended = listen();
    client.says('GE');
    client.ends();
    expect(await ended).toEqual({ kind: 'nothing' });
    client = new ScriptedStream();
    const broken = listen();
    client.closes({ message: 'reset' });
    expect(await broken).toEqual({ kind: 'broken', failure: { message: 'reset' } });
  });
});
