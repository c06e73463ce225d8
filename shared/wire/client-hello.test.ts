import { describe, expect, spyOn, test } from 'bun:test';
import { MAX_CLIENT_HELLO_BYTES, parseClientHello } from './client-hello.ts';

const u16 = (value: number): number[] => [value >> 8, value & 0xff];
const vector16 = (bytes: readonly number[]): number[] => [...u16(bytes.length), ...bytes];
const ascii = (text: string): number[] => Array.from(Buffer.from(text, 'latin1'));
const extension = (type: number, body: readonly number[]): number[] => [...u16(type), ...vector16(body)];
const serverName = (name: string): number[] => extension(0, vector16([0, ...vector16(ascii(name))]));
const alpn = (...names: readonly string[]): number[] =>
  extension(16, vector16(names.flatMap((name) => [name.length, ...ascii(name)])));

function hello(extensions: readonly number[] | null): number[] {
  const body = [3, 3, ...Array<number>(32).fill(7), 0, ...vector16([0x13, 0x01]), 1, 0];
  if (extensions !== null) body.push(...vector16(extensions));
  return [1, 0, ...u16(body.length), ...body];
}

/** Puts a handshake message into records of at most `size` bytes. */
function records(message: readonly number[], size = 16_384): Uint8Array {
  const bytes: number[] = [];
  for (let at = 0; at < message.length; at += size)
    bytes.push(22, 3, 1, ...vector16(message.slice(at, at + size)));
  return Uint8Array.from(bytes);
}

/** Bun's own hello with X25519 alone, as the mesh sends it. */
async function captureHello(): Promise<Uint8Array> {
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  const listener = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      data(socket, bytes) {
        resolve(new Uint8Array(bytes));
        socket.end();
      },
    },
  });
  const tls = {
    serverName: 'abc.picket',
    ALPNProtocols: Buffer.from('\x08picket/1', 'latin1'),
    ecdhCurve: 'X25519',
  };
  await Bun.connect({
    hostname: '127.0.0.1',
    port: listener.port,
    tls,
    socket: { data: () => undefined, error: () => undefined },
  });
  const bytes = await promise;
  listener.stop(true);
  return bytes;
}

describe('parseClientHello()', () => {
  test('reads what Bun sends on the mesh', async () => {
    const bytes = await captureHello();
    expect(bytes.length).toBeLessThan(400);
    expect(parseClientHello(bytes)).toEqual({ kind: 'hello', serverName: 'abc.picket', alpn: ['picket/1'] });
    for (let length = 0; length < bytes.length; length++)
      expect(parseClientHello(bytes.subarray(0, length))).toEqual({ kind: 'incomplete' });
  });

  test('reads a hello spread over records of any size, and ignores what follows', () => {
    const message = hello([...extension(43, [2, 3, 4]), ...serverName('Example.ORG'), ...alpn('h2', 'x')]);
    for (let size = 1; size < message.length + 1; size++) {
      const bytes = new Uint8Array([...records(message, size), 99, 99]);
      expect(parseClientHello(bytes)).toEqual({
        kind: 'hello',
        serverName: 'example.org',
        alpn: ['h2', 'x'],
      });
    }
  });

  test('copies what is not whole in no case, and refuses more records than stacks make', () => {
    const endless = [1, 0, 0x3f, 0xf0, ...Array<number>(2600).fill(7)];
    const concat = spyOn(Buffer, 'concat');
    try {
      expect(parseClientHello(records(endless.slice(0, 256), 1))).toEqual({ kind: 'incomplete' });
      expect(parseClientHello(records(endless, 1))).toMatchObject({ kind: 'malformed' });
      expect(concat).not.toHaveBeenCalled();
    } finally {
      concat.mockRestore();
    }
  });

  test('reads a hello without extensions, and one without SNI or ALPN', () => {
    const empty = { kind: 'hello', serverName: null, alpn: [] } as const;
    expect(parseClientHello(records(hello(null)))).toEqual(empty);
    expect(parseClientHello(records(hello([])))).toEqual(empty);
    expect(parseClientHello(records(hello(extension(43, [1]))))).toEqual(empty);
  });

  test('refuses what is no TLS by its first byte or second', () => {
    for (let byte = 0; byte < 256; byte++)
      expect(parseClientHello(Uint8Array.of(byte)).kind).toBe(byte === 22 ? 'incomplete' : 'malformed');
    for (let byte = 0; byte < 256; byte++)
      expect(parseClientHello(Uint8Array.of(22, byte)).kind).toBe(byte === 3 ? 'incomplete' : 'malformed');
  });

  test('refuses malformed hellos', () => {
    const bad: readonly (readonly number[])[] = [
      [2, 0, 0, 0],
      hello(serverName('')),
      hello(serverName('a b')),
      hello(serverName('a\x7f')),
      hello(serverName('a'.repeat(256))),
      hello([...serverName('a'), ...serverName('b')]),
      hello(extension(0, vector16([1, ...vector16(ascii('a'))]))),
      hello(extension(0, vector16([0, ...vector16(ascii('a')), 0, ...vector16(ascii('b'))]))),
      hello(extension(0, [...vector16([0, ...vector16(ascii('a'))]), 0])),
      hello(extension(16, vector16([0]))),
      hello(extension(16, vector16([5, 1]))),
      hello([0, 16, 0, 9, 1]),
      hello([0]),
      [1, 0, 0, 2, 3, 3],
      [1, 0xff, 0xff, 0xff],
    ];
    for (const message of bad) expect(parseClientHello(records(message)).kind).toBe('malformed');
    expect(parseClientHello(Uint8Array.of(22, 3, 1, 0, 0)).kind).toBe('malformed');
    expect(parseClientHello(Uint8Array.of(22, 3, 1, 0x40, 1)).kind).toBe('malformed');
    expect(parseClientHello(Uint8Array.of(22, 3, 1, 0, 1, 1, 23)).kind).toBe('malformed');
  });

  test('refuses a hello that never becomes whole', () => {
    const message = hello(extension(21, Array<number>(16_200).fill(0)));
    const bytes = new Uint8Array(MAX_CLIENT_HELLO_BYTES);
    bytes.set(records(message, 100).subarray(0, MAX_CLIENT_HELLO_BYTES));
    expect(parseClientHello(bytes).kind).toBe('malformed');
  });

  test('never throws for random and for damaged bytes', () => {
    let seed = 7;
    const next = (): number => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff) >> 8;
    const good = records(hello([...serverName('abc.picket'), ...alpn('picket/1')]));
    for (let round = 0; round < 5000; round++) {
      const bytes = good.slice(0, next() % 3 === 0 ? next() % good.length : good.length);
      for (let flips = next() % 4; flips > 0; flips--) bytes[next() % good.length] = next() & 0xff;
      expect(['incomplete', 'hello', 'malformed']).toContain(parseClientHello(bytes).kind);
    }
  });
});
