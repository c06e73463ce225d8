import { describe, expect, test } from 'bun:test';
import { decodeDatagram, encodeSegment } from './datagram-packet.ts';

/** As tcpdump shows them: DNS questions of 10.77.0.1:41000 and [fd77::1]:41000 with 4 bytes. */
const IPV4 = Buffer.from(
  '4500002012340000401153850a4d00010a4d0002a028003500 0c0000deadbeef'.replaceAll(' ', ''),
  'hex',
);
const IPV6 = Buffer.from(
  '60000000000c1140fd770000000000000000000000000001fd770000000000000000000000000002a0280035000c0000deadbeef',
  'hex',
);

describe('decodeDatagram()', () => {
  test('reads both families', () => {
    expect(decodeDatagram(IPV4)).toEqual({
      source: { address: '10.77.0.1', port: 41_000 },
      destination: { address: '10.77.0.2', port: 53 },
      payload: Buffer.from('deadbeef', 'hex'),
    });
    expect(decodeDatagram(IPV6)?.source).toEqual({ address: 'fd77::1', port: 41_000 });
    expect(decodeDatagram(IPV6)?.destination).toEqual({ address: 'fd77::2', port: 53 });
  });

  test('reads the ports behind options of IPv4', () => {
    const options = Buffer.concat([IPV4.subarray(0, 20), Buffer.from('01010101', 'hex'), IPV4.subarray(20)]);
    options.writeUInt8(0x46, 0);
    options.writeUInt16BE(options.length, 2);
    expect(decodeDatagram(options)?.destination.port).toBe(53);
  });

  test('refuses whatever is cut short or too long, at every length', () => {
    for (const whole of [IPV4, IPV6]) {
      for (let length = 0; length < whole.length; length++)
        expect(decodeDatagram(whole.subarray(0, length))).toBeUndefined();
      expect(decodeDatagram(Buffer.concat([whole, Buffer.of(0)]))).toBeUndefined();
    }
  });

  test('refuses fragments, other protocols, extension headers and lengths that differ', () => {
    const changed = (whole: Buffer, at: number, byte: number): Buffer => {
      const copy = Buffer.from(whole);
      copy.writeUInt8(byte, at);
      return copy;
    };
    const refused = [
      changed(IPV4, 0, 0x44),
      changed(IPV4, 0, 0x55),
      changed(IPV4, 6, 0x20),
      changed(IPV4, 7, 0x01),
      changed(IPV4, 9, 6),
      changed(IPV4, 25, 0x0b),
      changed(IPV6, 6, 44),
      changed(IPV6, 6, 0),
      changed(IPV6, 45, 0x0d),
    ];
    expect(refused.map(decodeDatagram)).toEqual(refused.map(() => undefined));
    // Do not fragment is no fragment.
    expect(decodeDatagram(changed(IPV4, 6, 0x40))).toBeDefined();
  });
});

describe('encodeSegment()', () => {
  test('writes the checksum that hardware was to write (RFC 768, with the pseudo header)', () => {
    for (const whole of [IPV4, IPV6]) {
      const datagram = decodeDatagram(whole);
      if (datagram === undefined) throw new Error('it is one');
      const segment = encodeSegment(datagram);
      const header = whole.length - segment.length;
      const unsummed = Buffer.from(segment);
      unsummed.writeUInt16BE(0, 6);
      expect(unsummed).toEqual(whole.subarray(header));
      const addresses = whole.subarray(whole === IPV4 ? 12 : 8, header);
      const words = Buffer.concat([addresses, Buffer.of(0, 17, 0, segment.length), segment]);
      let sum = 0;
      for (let at = 0; at < words.length; at += 2) sum += words.readUInt16BE(at);
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
      expect(sum).toBe(0xffff);
    }
  });

  test('refuses a payload that no datagram can have', () => {
    const ends = { source: { address: '10.0.0.1', port: 1 }, destination: { address: '10.0.0.2', port: 2 } };
    expect(encodeSegment({ ...ends, payload: Buffer.alloc(65_527) })).toHaveLength(65_535);
    expect(() => encodeSegment({ ...ends, payload: Buffer.alloc(65_528) })).toThrow(RangeError);
  });
});
