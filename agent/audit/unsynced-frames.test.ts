import { describe, expect, test } from 'bun:test';
import { UnsyncedFrames } from './unsynced-frames.ts';

const bytesOf = (frames: UnsyncedFrames): string => frames.bytes.toString('latin1');

describe('UnsyncedFrames', () => {
  test('holds what was written behind the last record on disk, by whole writes', () => {
    const frames = new UnsyncedFrames();
    frames.push(2, Buffer.from('one two '));
    frames.push(3, Buffer.from('three '));
    frames.push(5, Buffer.from('four five '));
    frames.synced(1);
    expect(bytesOf(frames)).toBe('one two three four five ');
    frames.synced(3);
    expect(bytesOf(frames)).toBe('four five ');
    frames.synced(4);
    frames.push(6, Buffer.from('six '));
    expect(bytesOf(frames)).toBe('four five six ');
    frames.synced(6);
    expect([frames.isEmpty, bytesOf(frames)]).toEqual([true, '']);
  });

  test('keeps copies, and as many as a slow disk makes it keep', () => {
    const frames = new UnsyncedFrames();
    const written: Buffer[] = [];
    const source = Buffer.alloc(50_000);
    for (let sequence = 1; sequence <= 60; sequence++) {
      source.fill(sequence);
      written.push(Buffer.from(source));
      frames.push(sequence, source);
    }
    expect(frames.bytes.equals(Buffer.concat(written))).toBe(true);
    frames.synced(59);
    expect(frames.bytes.equals(written[59]!)).toBe(true);
    frames.synced(60);
    frames.push(61, Buffer.from('after'));
    expect(bytesOf(frames)).toBe('after');
  });
});
