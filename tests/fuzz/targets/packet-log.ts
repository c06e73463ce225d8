import { decodeDatagram, encodeSegment } from '../../../agent/native/datagram-packet.ts';
import { decodePacketLogMessages } from '../../../agent/native/packet-log-message.ts';
import { fromHex } from '../seeds.ts';
import { hexWords, requireSame, requireThat, type FuzzTarget } from '../target.ts';

const IPV4 = '45000020123400004011 53850a4d00010a4d0002a0280035000c0000deadbeef'.replaceAll(' ', '');
const IPV6 =
  '60000000000c1140fd770000000000000000000000000001fd770000000000000000000000000002a0280035000c0000deadbeef';
/** nlmsghdr, nfgenmsg, user, number, and the packet. */
const LOGGED =
  `48000000000400000000000000000000020000000800 0b000000 03e808000c0000000001240009 00${IPV4}`.replaceAll(
    ' ',
    '',
  );

/** What NFLOG tells, and the packets in it: datagrams that can be written again, byte for byte but for the checksum. */
export const target: FuzzTarget = {
  seeds: fromHex(LOGGED, IPV4, IPV6),
  dictionary: hexWords(
    '0004',
    '0104',
    '0900',
    '0b00',
    '0c00',
    '0500',
    '45000020',
    '60000000',
    '11',
    '000c',
    '0035',
  ),
  maxBytes: 4096,
  check(input) {
    const messages = decodePacketLogMessages(input);
    requireThat(messages.length <= input.length / 20, 'more messages than bytes');
    const packets = messages.flatMap((message) => (message.kind === 'packet' ? [message.logged.packet] : []));
    const read = [input, ...packets].map((packet) => {
      const datagram = decodeDatagram(packet);
      if (datagram === undefined) return 'none';
      const segment = encodeSegment(datagram);
      requireSame(segment.length, datagram.payload.length + 8, 'its length');
      const end = packet.subarray(packet.length - segment.length);
      requireSame(segment.toString('hex', 0, 6), end.toString('hex', 0, 6), 'ports and length');
      requireSame(segment.toString('hex', 8), end.toString('hex', 8), 'the payload');
      return datagram.source.address.includes(':') ? 'ipv6' : 'ipv4';
    });
    return `${messages
      .slice(0, 3)
      .map(({ kind }) => kind)
      .join()} ${read.slice(0, 3).join()}`;
  },
};
