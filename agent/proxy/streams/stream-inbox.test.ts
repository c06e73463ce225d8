import { describe, expect, test } from 'bun:test';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import { READ_AHEAD_BYTES, StreamInbox } from './stream-inbox.ts';

const FAILURE = { message: 'It was cut' };

async function settled(): Promise<void> {
  for (let i = 0; i < 8; i++) await Promise.resolve();
}

describe('StreamInbox', () => {
  test('hands over what waits in few calls, however small the pieces were', async () => {
    const inbox = new StreamInbox();
    for (let i = 0; i < 256 * 1024; i++) inbox.data(Buffer.of(i & 0xff));
    const reader = new CollectingReader();
    let calls = 0;
    inbox.attach({
      onData: (bytes) => {
        calls += 1;
        reader.onData(bytes);
      },
      onEnd: () => reader.onEnd(),
      onDrain: () => reader.onDrain(),
      onClose: (failure) => reader.onClose(failure),
    });
    await settled();
    expect(reader.length).toBe(256 * 1024);
    expect(reader.bytes.every((byte, i) => byte === (i & 0xff))).toBe(true);
    expect(calls).toBeLessThanOrEqual(18);
    expect(inbox.heldBytes).toBe(0);
  });

  test('wants bytes before there is a reader up to a bound, and none while paused', () => {
    const inbox = new StreamInbox();
    expect([inbox.wantsBytes, inbox.isOpen]).toEqual([true, false]);
    expect(inbox.data(Buffer.alloc(READ_AHEAD_BYTES - 1))).toBe(true);
    expect(inbox.wantsBytes).toBe(true);
    inbox.data(Buffer.alloc(1));
    expect(inbox.wantsBytes).toBe(false);
    inbox.attach(new CollectingReader());
    expect(inbox.wantsBytes).toBe(true);
    inbox.pause();
    expect(inbox.wantsBytes).toBe(false);
    const paused = new StreamInbox();
    paused.pause();
    expect(paused.wantsBytes).toBe(false);
  });

  test('tells a failure to a paused reader at once, whatever it has not read', async () => {
    const inbox = new StreamInbox();
    const reader = new CollectingReader();
    inbox.attach(reader);
    inbox.pause();
    inbox.data(Buffer.from('unread'));
    inbox.end();
    inbox.close(FAILURE);
    expect(inbox.heldBytes).toBe(0);
    await settled();
    expect(reader.closure).toEqual({ failure: FAILURE });
    inbox.resume();
    await settled();
    // That was the last call.
    expect([reader.length, reader.isEnded]).toEqual([0, false]);
  });

  test('tells a failure to a reader that pauses while it is handed what came before', async () => {
    const inbox = new StreamInbox();
    const reader = new CollectingReader();
    for (const size of [1, 20_000, 20_000]) inbox.data(Buffer.alloc(size));
    reader.onData = (bytes) => {
      CollectingReader.prototype.onData.call(reader, bytes);
      inbox.pause();
    };
    inbox.attach(reader);
    inbox.close(FAILURE);
    await settled();
    expect(reader.length).toBe(1);
    expect(reader.closure).toEqual({ failure: FAILURE });
    expect(inbox.heldBytes).toBe(0);
  });

  test('hands a reader that reads what came before the failure, and then the failure', async () => {
    const inbox = new StreamInbox();
    const reader = new CollectingReader();
    inbox.attach(reader);
    inbox.pause();
    inbox.data(Buffer.from('before'));
    inbox.resume();
    inbox.close(FAILURE);
    await settled();
    expect([reader.text, reader.closure]).toEqual(['before', { failure: FAILURE }]);
  });

  test('keeps what is unread over a clean close', async () => {
    const inbox = new StreamInbox();
    const reader = new CollectingReader();
    inbox.attach(reader);
    inbox.pause();
    inbox.data(Buffer.from('kept'));
    inbox.end();
    inbox.close(undefined);
    await settled();
    expect([reader.text, reader.closure]).toEqual(['', undefined]);
    inbox.resume();
    await settled();
    expect([reader.text, reader.isEnded, reader.closure]).toEqual(['kept', true, { failure: undefined }]);
  });

  test('tells a failure to a reader that comes after it', async () => {
    const inbox = new StreamInbox();
    inbox.data(Buffer.from('early'));
    inbox.close(FAILURE);
    expect(inbox.heldBytes).toBe(0);
    const reader = new CollectingReader();
    inbox.attach(reader);
    await settled();
    expect(reader.closure).toEqual({ failure: FAILURE });
  });
});
