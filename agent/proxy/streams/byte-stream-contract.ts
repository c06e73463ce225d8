import { describe, expect, test } from 'bun:test';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import type { ByteStream } from './byte-stream.ts';

/** Two ends of one stream. */
export interface StreamPair {
  readonly near: ByteStream;
  readonly far: ByteStream;
}

type MakePair = () => Promise<StreamPair>;

const MIB = 1024 * 1024;

/** What every `ByteStream` keeps, run on fresh pairs from `makePair`. */
export function byteStreamContract(name: string, makePair: MakePair): void {
  describe(`${name} as a ByteStream`, () => {
    testCarrying(makePair);
    testReaders(makePair);
    testPausing(makePair);
    testAborting(makePair);
  });
}

/** Whole, in order, in each direction by itself, and nothing behind the end. */
function testCarrying(makePair: MakePair): void {
  test('carries bytes whole and in order, both ways at once', async () => {
    const { near, far, nearReader, farReader } = await attachedPair(makePair);
    const sent = [patternOf(3 * MIB, 7), patternOf(2 * MIB, 11)] as const;
    await Promise.all([sendInPieces(near, nearReader, sent[0]), sendInPieces(far, farReader, sent[1])]);
    await waitUntil('both sides have everything', () => nearReader.isEnded && farReader.isEnded);
    expect(farReader.bytes.equals(sent[0])).toBe(true);
    expect(nearReader.bytes.equals(sent[1])).toBe(true);
    await waitUntil('both sides are closed', () => nearReader.closure && farReader.closure);
    expect([nearReader.closure, farReader.closure]).toEqual([{ failure: undefined }, { failure: undefined }]);
  });

  test('carries a half-close: the other direction stays open', async () => {
    const { near, far, nearReader, farReader } = await attachedPair(makePair);
    near.write(Buffer.from('question'));
    near.end();
    await waitUntil('the far side sees the end', () => farReader.isEnded);
    expect(farReader.text).toBe('question');
    expect(nearReader.closure).toBeUndefined();
    far.write(Buffer.from('answer'));
    await waitUntil('the answer is there', () => nearReader.text === 'answer');
    expect(nearReader.isEnded).toBe(false);
    far.end();
    await waitUntil('both sides are closed', () => nearReader.closure && farReader.closure);
    expect([nearReader.closure, farReader.closure]).toEqual([{ failure: undefined }, { failure: undefined }]);
  });

  test('ignores what is written after the end', async () => {
    const { near, farReader } = await attachedPair(makePair);
    near.write(Buffer.from('all'));
    near.end();
    near.write(Buffer.from('more'));
    near.end();
    await waitUntil('the far side sees the end', () => farReader.isEnded);
    expect(farReader.text).toBe('all');
  });
}

/** Nothing before a reader is attached, and everything to the one that is. */
function testReaders(makePair: MakePair): void {
  test('reads nothing before attach, and calls no reader from within attach or resume', async () => {
    const { near, far } = await makePair();
    near.attach(new CollectingReader());
    near.write(Buffer.from('early'));
    near.end();
    await Bun.sleep(30);
    const reader = new CollectingReader();
    far.attach(reader);
    expect([reader.length, reader.isEnded]).toEqual([0, false]);
    await waitUntil('what came early is there', () => reader.isEnded);
    expect(reader.text).toBe('early');
  });

  test('a reader may be replaced from within, and the new one is told of an end that was before it', async () => {
    const { near, far } = await makePair();
    near.attach(new CollectingReader());
    const second = new CollectingReader();
    const first = new CollectingReader();
    first.onData = (bytes) => {
      CollectingReader.prototype.onData.call(first, bytes);
      far.attach(second);
    };
    far.attach(first);
    near.write(Buffer.from('one'));
    await waitUntil('the first has its bytes', () => first.text === 'one');
    near.write(Buffer.from('two'));
    near.end();
    await waitUntil('the second sees the end', () => second.isEnded);
    expect(second.text).toBe('two');
    const third = new CollectingReader();
    far.attach(third);
    await waitUntil('the third sees the end too', () => third.isEnded);
    expect(third.length).toBe(0);
  });
}

/** A reader that is paused is sent nothing, and who writes to it is told to wait. */
function testPausing(makePair: MakePair): void {
  test('a paused reader holds the writer back, with bounded memory, until it resumes', async () => {
    const { near, far, nearReader, farReader } = await attachedPair(makePair);
    far.pause();
    const chunk = patternOf(64 * 1024, 3);
    let sent = 0;
    // The kernel's buffers take some; then write says to stop, for good.
    await waitUntil('the writer is held back', async () => {
      let isRoom = true;
      while (isRoom && sent < 256 * MIB) {
        isRoom = near.write(chunk);
        sent += chunk.length;
      }
      const drains = nearReader.drains;
      await Bun.sleep(60);
      return nearReader.drains === drains;
    });
    expect(sent).toBeLessThan(64 * MIB);
    expect(farReader.length).toBeLessThan(MIB);
    const drains = nearReader.drains;
    far.resume();
    await waitUntil('everything is there', () => farReader.length === sent);
    expect(nearReader.drains).toBe(drains + 1);
  });

  test('a pause before the end keeps both bytes and end until resume', async () => {
    const { near, far, farReader } = await attachedPair(makePair);
    far.pause();
    near.write(Buffer.from('kept'));
    near.end();
    await Bun.sleep(30);
    expect(farReader.isEnded).toBe(false);
    far.resume();
    await waitUntil('the end is there', () => farReader.isEnded);
    expect(farReader.text).toBe('kept');
  });
}

/** At once, for the other end alone, whatever that has not read. */
function testAborting(makePair: MakePair): void {
  test('abort is a failure at the other end and silence at our own', async () => {
    const { near, far, nearReader, farReader } = await attachedPair(makePair);
    far.write(Buffer.from('hello'));
    await waitUntil('they talk', () => nearReader.text === 'hello');
    near.abort();
    await waitUntil('the far side is told', () => farReader.closure);
    expect(farReader.closure?.failure?.message).toBeString();
    expect(farReader.isEnded).toBe(false);
    expect(nearReader.closure).toBeUndefined();
    near.abort();
    far.abort();
    expect(near.write(Buffer.from('late'))).toBe(true);
    near.end();
  });

  test('abort reaches a reader that is paused', async () => {
    const { near, far, farReader } = await attachedPair(makePair);
    far.pause();
    near.abort();
    await waitUntil('the far side is told', () => farReader.closure);
    expect(farReader.closure?.failure).toBeDefined();
  });

  test('abort reaches a reader that is paused and has not read what came before', async () => {
    const { near, far, farReader } = await attachedPair(makePair);
    far.pause();
    near.write(Buffer.from('unread'));
    near.abort();
    await waitUntil('the far side is told', () => farReader.closure);
    expect([farReader.text, farReader.isEnded]).toEqual(['', false]);
    expect(farReader.closure?.failure).toBeDefined();
  });
}

async function attachedPair(
  makePair: MakePair,
): Promise<StreamPair & { readonly nearReader: CollectingReader; readonly farReader: CollectingReader }> {
  const { near, far } = await makePair();
  const [nearReader, farReader] = [new CollectingReader(), new CollectingReader()];
  near.attach(nearReader);
  far.attach(farReader);
  return { near, far, nearReader, farReader };
}

/** Writes pieces of many sizes, obeying back-pressure, and ends. */
async function sendInPieces(stream: ByteStream, reader: CollectingReader, bytes: Uint8Array): Promise<void> {
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7 + 13) % 200_003) {
    const drains = reader.drains;
    const isRoom = stream.write(bytes.subarray(at, at + size));
    if (!isRoom) await waitUntil('the writer may go on', () => reader.drains > drains);
  }
  stream.end();
}

function patternOf(length: number, factor: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * factor) ^ (i >>> 8);
  return bytes;
}
