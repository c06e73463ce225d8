import { describe, expect, test } from 'bun:test';
import { buildAttribute } from './netlink-attribute.ts';
import { decodePacketLogMessages } from './packet-log-message.ts';

function u32(number: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number, 0);
  return bytes;
}

/** nlmsghdr and nfgenmsg of an NFULNL_MSG_PACKET, with attributes. */
function packetOf(...attributes: readonly Buffer[]): Buffer {
  const message = Buffer.concat([Buffer.alloc(20), ...attributes]);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(0x0400, 4);
  return message;
}

const LOGGED = packetOf(
  buildAttribute(5, u32(3)),
  buildAttribute(11, u32(1000)),
  buildAttribute(12, u32(41)),
  buildAttribute(9, Buffer.from('datagram!')),
);

describe('decodePacketLogMessages()', () => {
  test('reads packets, whose and by which interface', () => {
    expect(decodePacketLogMessages(Buffer.concat([LOGGED, LOGGED]))).toHaveLength(2);
    expect(decodePacketLogMessages(LOGGED)[0]).toEqual({
      kind: 'packet',
      logged: { packet: Buffer.from('datagram!'), uid: 1000, interfaceIndex: 3, sequence: 41 },
    });
  });

  test('knows no user of a packet that no socket sent, and passes over one without bytes', () => {
    const [message] = decodePacketLogMessages(packetOf(buildAttribute(9, Buffer.from('x'))));
    expect(message).toMatchObject({ logged: { uid: undefined, interfaceIndex: 0 } });
    expect(decodePacketLogMessages(packetOf(buildAttribute(11, u32(0))))).toEqual([]);
  });

  test('takes nothing of what is cut short, at every length', () => {
    for (let length = 0; length < LOGGED.length; length++)
      expect(decodePacketLogMessages(LOGGED.subarray(0, length))).toEqual([]);
  });
});
