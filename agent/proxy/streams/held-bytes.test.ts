import { describe, expect, test } from 'bun:test';
import { HeldBytes } from './held-bytes.ts';

function drained(held: HeldBytes): Buffer {
  const pieces: Uint8Array[] = [];
  for (let next = held.shift(); next !== undefined; next = held.shift()) pieces.push(next);
  return Buffer.concat(pieces);
}

describe('HeldBytes', () => {
  test('gives back in order what came in pieces of any size, also while more comes', () => {
    const held = new HeldBytes();
    const [sent, got]: [Buffer[], Buffer[]] = [[], []];
    for (let i = 0; i < 200; i++) {
      const piece = Buffer.alloc((i * 7919) % 20_011, i);
      sent.push(piece);
      held.push(piece);
      if (i % 5 === 0) got.push(Buffer.from(held.shift() ?? []));
    }
    expect(held.length).toBe(Buffer.concat(sent).length - Buffer.concat(got).length);
    got.push(drained(held));
    expect(Buffer.concat(got).equals(Buffer.concat(sent))).toBe(true);
    expect([held.length, held.shift()]).toEqual([0, undefined]);
  });

  test('copies: what the pieces came in may be used again', () => {
    const held = new HeldBytes();
    const shared = Buffer.from('a');
    held.push(shared);
    held.push(shared);
    shared.write('b');
    expect(drained(held).toString()).toBe('aa');
  });

  test('keeps single bytes in few blocks, and a piece alone in a block of its size', () => {
    const held = new HeldBytes();
    held.push(Buffer.of(1));
    expect(held.shift()?.buffer.byteLength).toBe(1);
    for (let i = 0; i < 256 * 1024; i++) held.push(Buffer.of(i & 0xff));
    let [blocks, bytes] = [0, 0];
    for (let next = held.shift(); next !== undefined; next = held.shift()) {
      blocks += 1;
      bytes += next.buffer.byteLength;
    }
    expect(blocks).toBeLessThanOrEqual(18);
    expect(bytes).toBeLessThan(300 * 1024);
  });

  test('clear() forgets all', () => {
    const held = new HeldBytes();
    held.push(Buffer.from('x'));
    held.clear();
    expect([held.length, held.shift()]).toEqual([0, undefined]);
  });
});
