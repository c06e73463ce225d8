import { describe, expect, test } from 'bun:test';
import { decodeAnswer, encodeQuery, QUERY_BYTES } from './sock-diag-message.ts';

/** An answer as the kernel gave it, 127.0.0.1:44321 to 127.0.0.1:8080 of uid 1000. */
function socketMessage(sequence: number, attributes: readonly number[] = []): Buffer {
  const message = Buffer.alloc(88 + attributes.length);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(20, 4);
  message.writeUInt32LE(sequence, 8);
  message[16] = 2;
  message.writeUInt16BE(44321, 20);
  message.writeUInt16BE(8080, 22);
  message.set([127, 0, 0, 1], 24);
  message.set([127, 0, 0, 1], 40);
  message.writeBigUInt64LE(77n, 60);
  message.writeUInt32LE(1000, 80);
  message.writeUInt32LE(4_294_967_295, 84);
  message.set(attributes, 88);
  return message;
}

describe('encodeQuery()', () => {
  test('asks for one connection with its own end first', () => {
    const target = Buffer.alloc(QUERY_BYTES, 0x55);
    const local = { address: '10.0.0.1', port: 1 };
    const length = encodeQuery(target, 9, {
      kind: 'exact',
      local,
      remote: { address: '10.0.0.2', port: 2 },
    });
    expect(target.toString('hex', 0, length)).toBe(
      '48000000140001000900000000000000' +
        '02060000ffffffff' +
        '000100020a00000100000000000000000000000' +
        '00a00000200000000000000000000000000000000ffffffffffffffff',
    );
  });

  test('asks for all at a port, in both families at once', () => {
    const target = Buffer.alloc(QUERY_BYTES, 0x55);
    const length = encodeQuery(target, 9, { kind: 'dump', states: 0x400, localPort: 80, remotePort: 0 });
    expect(target.toString('hex', 0, length)).toBe(
      `4c0000001200010309000000000000000000000000500000${'00'.repeat(44)}0004000000000000`,
    );
  });
});

describe('decodeAnswer()', () => {
  test('reads a socket', () => {
    expect(decodeAnswer(socketMessage(5), 5)).toEqual([
      {
        kind: 'socket',
        isInterrupted: false,
        mark: 0,
        socket: {
          local: { address: '127.0.0.1', port: 44321 },
          remote: { address: '127.0.0.1', port: 8080 },
          uid: 1000,
          inode: 4_294_967_295,
          cookie: 77n,
          interfaceIndex: 0,
          isIpv6: false,
          isIpv6Only: false,
        },
      },
    ]);
  });

  test('reads the mark of a socket, behind other attributes and cut short', () => {
    // INET_DIAG_SHUTDOWN, one byte, and INET_DIAG_MARK.
    const attributes = [5, 0, 8, 0, 3, 0, 0, 0, 8, 0, 15, 0, 0x49, 0x50, 0, 0];
    const markOf = (bytes: readonly number[]): unknown => {
      const [message] = decodeAnswer(socketMessage(5, bytes), 5);
      return message?.kind === 'socket' ? message.mark : undefined;
    };
    expect(markOf(attributes)).toBe(0x5049);
    for (let length = 0; length < attributes.length; length++)
      expect(markOf(attributes.slice(0, length))).toBe(0);
    expect(markOf([6, 0, 15, 0, 1, 2, 0, 0])).toBe(0);
  });

  test('passes over the answer to another question', () => {
    const both = Buffer.concat([socketMessage(4), socketMessage(5)]);
    expect(decodeAnswer(both, 5)).toHaveLength(1);
    expect(decodeAnswer(both, 6)).toEqual([]);
  });

  test('a dump that failed half-way is an error, not an end', () => {
    const done = Buffer.from('14000000030002000500000000000000f4ffffff', 'hex');
    expect(decodeAnswer(done, 5)).toEqual([{ kind: 'error', errorNumber: 12 }]);
  });

  test('reads nothing from what is cut short, whatever the length', () => {
    const whole = socketMessage(5);
    for (let length = 0; length < whole.length; length++)
      expect(decodeAnswer(whole.subarray(0, length), 5)).toEqual([]);
  });

  test('stops at lengths that lead nowhere', () => {
    for (const length of [0, 1, 15, 89, 0xffffffff]) {
      const message = socketMessage(5);
      message.writeUInt32LE(length, 0);
      expect(decodeAnswer(message, 5)).toEqual([]);
    }
    for (const attributes of [
      [0, 0, 11, 0],
      [255, 0, 11, 0],
      [3, 0, 11, 0],
    ])
      expect(decodeAnswer(socketMessage(5, attributes), 5)).toHaveLength(1);
  });
});
