import { expect, test } from 'bun:test';
import { decodeNftablesMessages } from './nftables-message.ts';

/** What the kernel sent at `nft delete table inet picket`, and when the transaction had ended. */
const DELETED = message(0x0a02, [0x01, 0, 0, 0], [attribute(1, 'picket\0')]);
const ENDED = message(0x0a0f, [0, 0, 0, 0], [number(1, 23), number(2, 4711), attribute(3, 'nft\0')]);

test('decodeNftablesMessages() tells whose table was touched, and who ended the transaction', () => {
  expect(decodeNftablesMessages(Buffer.concat([DELETED, ENDED])).map(({ message }) => message)).toEqual([
    { kind: 'member', family: 1, table: 'picket' },
    { kind: 'generation', number: 23, author: { pid: 4711, program: 'nft' } },
  ]);
});

test('decodeNftablesMessages() reads an error', () => {
  const refused = message(2, [0xff, 0xff, 0xff, 0xff], []);
  expect(decodeNftablesMessages(refused).map(({ message }) => message)).toEqual([
    { kind: 'error', errorNumber: 1 },
  ]);
});

test('decodeNftablesMessages() passes over what is cut off, of others, or without what it must have', () => {
  expect(decodeNftablesMessages(DELETED.subarray(0, DELETED.length - 1))).toEqual([]);
  expect(decodeNftablesMessages(Buffer.alloc(64))).toEqual([]);
  expect(decodeNftablesMessages(message(0x0102, [1, 0, 0, 0], [attribute(1, 'picket\0')]))).toEqual([]);
  expect(decodeNftablesMessages(message(0x0a02, [1, 0, 0, 0], []))).toEqual([]);
  expect(decodeNftablesMessages(message(0x0a0f, [0, 0, 0, 0], [attribute(1, 'x')]))).toEqual([]);
});

function message(type: number, prefix: readonly number[], attributes: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(16);
  const bytes = Buffer.concat([header, Buffer.from(prefix), ...attributes]);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(type, 4);
  return bytes;
}

function attribute(type: number, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const padded = Buffer.alloc(4 + ((bytes.length + 3) & ~3));
  padded.writeUInt16LE(4 + bytes.length, 0);
  padded.writeUInt16LE(type, 2);
  bytes.copy(padded, 4);
  return padded;
}

function number(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return attribute(type, bytes);
}
