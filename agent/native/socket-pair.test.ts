import { expect, test } from 'bun:test';
import { readlinkSync } from 'node:fs';
import { closeDescriptor } from './dial.ts';
import { libc } from './libc.ts';
import { openSocketPair } from './socket-pair.ts';

test('openSocketPair() makes two sockets that are connected with each other alone', () => {
  const [one, other] = openSocketPair();
  try {
    for (const fd of [one, other]) expect(readlinkSync(`/proc/self/fd/${fd}`)).toStartWith('socket:');
    const sent = Buffer.from('ping');
    expect(libc().send(one, sent, sent.length, 0)).toBe(sent.length);
    const received = Buffer.alloc(16);
    expect(libc().recv(other, received, received.length, 0)).toBe(sent.length);
    expect(received.subarray(0, sent.length)).toEqual(sent);
    // Nothing more is there, and nobody waits for it.
    expect(libc().recv(other, received, received.length, 0)).toBe(-1);
  } finally {
    closeDescriptor(one);
    closeDescriptor(other);
  }
});
