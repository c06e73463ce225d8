import { describe, expect, test } from 'bun:test';
import { decodeTrackingAnswer, encodeTrackingQuery, MAX_TRACKING_QUERY_BYTES } from './conntrack-message.ts';

/** As a Linux 6 kernel answered: 10.9.0.1:53234 to 10.9.0.2:80, redirected to 127.0.0.1:15001. */
const ANSWER = Buffer.from(
  '1AAAAAABAgAHAAAAySAAAAIAAAA0AAGAFAABgAgAAQAKCQABCAACAAoJAAIcAAKABQABAAYAAAAGAAIAz/IAAAYAAwAAUAAANAACgBQAAYAIAAEAfwAAAQgAAgAKCQABHAACgAUAAQAGAAAABgACADqZAAAGAAMAz/IAAAgAAwAAAAGuCAAIAAAAAAAIAAwANAZJ1ggACwAAAAACCAAHAAAGl4AwAASALAABgAUAAQADAAAABQACAAoAAAAFAAMACgAAAAYABAAjAAAABgAFACMAAAA=',
  'base64',
);
const LISTENER = { address: '127.0.0.1', port: 15_001 };
const PROGRAM = { address: '10.9.0.1', port: 53_234 };

/** A question as it was sent to the kernel that answered. */
const QUESTIONS = {
  ipv4: '48000000010101000700000000000000020000003400028014000180080001007f000001080002000a0900011c0002800500010006000000060002003a99000006000300cff20000',
  ipv6: '600000000101010007000000000000000a0000004c0002802c000180140003000000000000000000000000000000000114000400fd0900000000000000000000000000011c0002800500010006000000060002003a990000060003008ee80000',
} as const;

describe('encodeTrackingQuery()', () => {
  test('asks for the connection that answers from the listener, in IPv4 and IPv6', () => {
    const target = Buffer.alloc(MAX_TRACKING_QUERY_BYTES, 0x55);
    const ask = (source: typeof LISTENER, destination: typeof PROGRAM): string => {
      const length = encodeTrackingQuery(target, 7, { side: 'reply', source, destination });
      return target.toString('hex', 0, length);
    };
    expect(ask(LISTENER, PROGRAM)).toBe(QUESTIONS.ipv4);
    const listener = { address: '::1', port: 15_001 };
    expect(ask(listener, { address: 'fd09::1', port: 36_584 })).toBe(QUESTIONS.ipv6);
  });

  test('names the zone behind it', () => {
    const target = Buffer.alloc(MAX_TRACKING_QUERY_BYTES, 0x55);
    const asked = {
      source: { address: '::1', port: 15_001 },
      destination: { address: 'fd09::1', port: 36_584 },
    };
    const length = encodeTrackingQuery(target, 7, { ...asked, side: 'reply', zone: 0x504a });
    expect(target.toString('hex', 0, length)).toBe(`68${QUESTIONS.ipv6.slice(2)}06001200504a0000`);
  });
});

test('encodeTrackingQuery() asks by the opening direction too', () => {
  const target = Buffer.alloc(MAX_TRACKING_QUERY_BYTES, 0x55);
  const asked = { side: 'original', source: LISTENER, destination: PROGRAM } as const;
  const length = encodeTrackingQuery(target, 7, asked);
  // CTA_TUPLE_ORIG, nested, in place of CTA_TUPLE_REPLY.
  expect(target.toString('hex', 0, length)).toBe(QUESTIONS.ipv4.replace('34000280', '34000180'));
});

describe('decodeTrackingAnswer()', () => {
  test('reads both directions', () => {
    expect(decodeTrackingAnswer(ANSWER, 7)).toEqual({
      kind: 'connection',
      original: { source: PROGRAM, destination: { address: '10.9.0.2', port: 80 } },
      reply: { source: LISTENER, destination: PROGRAM },
    });
  });

  test('reads why there is none', () => {
    const refused = Buffer.from(
      '24000000020000000700000000000000feffffff24000000010101000700000000000000',
      'hex',
    );
    expect(decodeTrackingAnswer(refused, 7)).toEqual({ kind: 'error', errorNumber: 2 });
  });

  test('passes over the answer to another question', () => {
    expect(decodeTrackingAnswer(ANSWER, 6)).toBeUndefined();
  });

  test('reads nothing from what is cut short, whatever the length', () => {
    for (let length = 0; length < ANSWER.length; length++)
      expect(decodeTrackingAnswer(ANSWER.subarray(0, length), 7)).toBeUndefined();
  });

  test('reads nothing of another protocol than TCP, or without an address or a port', () => {
    const protocol = ANSWER.indexOf(Buffer.from('0500010006000000', 'hex'));
    const address = ANSWER.indexOf(Buffer.from('080001000a090001', 'hex'));
    const port = ANSWER.indexOf(Buffer.from('06000200cff20000', 'hex'));
    for (const [at, value] of [
      [protocol + 4, 17],
      [address + 2, 9],
      [port + 2, 9],
    ] as const) {
      const changed = Buffer.from(ANSWER);
      changed[at] = value;
      expect(decodeTrackingAnswer(changed, 7)).toBeUndefined();
    }
  });
});
