import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { FieldList, HpackDecoder } from './hpack-decoder.ts';
import { encodeFields } from './hpack-encoder.ts';
import { decodeHuffman, maxDecodedBytes } from './hpack-huffman.ts';
import { STATIC_TABLE } from './hpack-static-table.ts';

const LIMITS = { listBytes: 64 * 1024, fields: 256 };

const newDecoder = (): HpackDecoder => new HpackDecoder(LIMITS);

function fieldsOf(decoder: HpackDecoder, hex: string): string[] {
  const list = new FieldList();
  const block = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  decoder.decode(block, { start: 0, end: block.length }, list);
  return list.names.map((name, i) => `${name}: ${list.values[i] ?? ''}`);
}

const refusalOf = (hex: string, decoder = newDecoder()): string | undefined =>
  reasonOf(() => fieldsOf(decoder, hex));

const MALFORMED = 'http2_compression_error';

describe('HpackDecoder', () => {
  test('follows requests of RFC 7541 C.3, without Huffman code', () => {
    const decoder = newDecoder();
    expect(fieldsOf(decoder, '828684410f7777772e6578616d706c652e636f6d')).toEqual([
      ':method: GET',
      ':scheme: http',
      ':path: /',
      ':authority: www.example.com',
    ]);
    expect(fieldsOf(decoder, '828684be58086e6f2d6361636865')).toEqual([
      ':method: GET',
      ':scheme: http',
      ':path: /',
      ':authority: www.example.com',
      'cache-control: no-cache',
    ]);
    expect(fieldsOf(decoder, '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565')).toEqual([
      ':method: GET',
      ':scheme: https',
      ':path: /index.html',
      ':authority: www.example.com',
      'custom-key: custom-value',
    ]);
  });

  test('follows requests of RFC 7541 C.4, with Huffman code', () => {
    const decoder = newDecoder();
    expect(fieldsOf(decoder, '828684418cf1e3c2e5f23a6ba0ab90f4ff')).toContain(':authority: www.example.com');
    expect(fieldsOf(decoder, '828684be5886a8eb10649cbf')).toContain('cache-control: no-cache');
    expect(fieldsOf(decoder, '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf')).toEqual([
      ':method: GET',
      ':scheme: https',
      ':path: /index.html',
      ':authority: www.example.com',
      'custom-key: custom-value',
    ]);
  });

  test('evicts as the answers of RFC 7541 C.6 want it, in a table of 256 bytes', () => {
    const decoder = newDecoder();
    fieldsOf(decoder, '3fe101');
    const date = 'date: Mon, 21 Oct 2013 20:13:21 GMT';
    const first = fieldsOf(
      decoder,
      '488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
    );
    expect(first).toEqual([
      ':status: 302',
      'cache-control: private',
      date,
      'location: https://www.example.com',
    ]);
    expect(fieldsOf(decoder, '4883640effc1c0bf')).toEqual([
      ':status: 307',
      'cache-control: private',
      date,
      'location: https://www.example.com',
    ]);
    // :status 302 is no more: index 66 leads nowhere now.
    expect(refusalOf('c2', decoder)).toBe(MALFORMED);
  });

  test('knows every entry of the static table, and no entry 0', () => {
    expect(STATIC_TABLE).toHaveLength(61);
    STATIC_TABLE.forEach(([name, value], i) => {
      expect(fieldsOf(newDecoder(), (0x80 | (i + 1)).toString(16))).toEqual([`${name}: ${value}`]);
    });
    expect(refusalOf('80')).toBe(MALFORMED);
    expect(refusalOf('be')).toBe(MALFORMED);
  });

  test('says where each field stands, and which may never be indexed', () => {
    const list = new FieldList();
    const block = Buffer.from('20 82 1001610178 82 0f2e0131'.replaceAll(' ', ''), 'hex');
    expect(newDecoder().decode(block, { start: 0, end: block.length }, list)).toBe(1);
    expect(list.starts).toEqual([1, 2, 7, 8]);
    expect(list.ends).toEqual([2, 7, 8, 12]);
    expect(list.isNeverIndexed).toEqual([false, true, false, false]);
    expect(list.names).toEqual([':method', 'a', ':method', 'www-authenticate']);
  });

  test('takes size updates at the front alone, and never above the limit', () => {
    const decoder = newDecoder();
    expect(decoder.isTableless).toBe(false);
    decoder.allowTableBytes(0);
    // An encoder that has not come down yet is followed.
    expect(fieldsOf(decoder, '4001610162')).toEqual(['a: b']);
    expect(fieldsOf(decoder, 'be')).toEqual(['a: b']);
    expect(fieldsOf(decoder, '2082')).toEqual([':method: GET']);
    expect(decoder.isTableless).toBe(true);
    expect(fieldsOf(decoder, '4001610162')).toEqual(['a: b']);
    expect(refusalOf('be', decoder)).toBe(MALFORMED);
    expect(refusalOf('21', decoder)).toBe(MALFORMED);
    expect(refusalOf('8220')).toBe(MALFORMED);
    expect(refusalOf('3fe21f')).toBe(MALFORMED);
    expect(refusalOf('3fe11f')).toBeUndefined();
  });

  test.each([
    ['a number that does not end', 'ffffffffffff'],
    ['a number beyond 28 bits', 'ff8080808001'],
    ['a block that ends within a name', '00056162'],
    ['a block that ends before the value', '000161'],
    ['a text with the end-of-string symbol', '00016184ffffffff'],
    ['padding of eight bits', '000161821fff'],
    ['padding that is not ones', '0001618118'],
  ])('refuses %s', (_, hex) => {
    expect(refusalOf(hex)).toBe(MALFORMED);
  });

  test('keeps nothing beyond its limits, and follows the table all the same', () => {
    const decoder = new HpackDecoder({ listBytes: 100, fields: 3 });
    const list = new FieldList();
    const decode = (block: Buffer): void => void decoder.decode(block, { start: 0, end: block.length }, list);
    decode(
      Buffer.concat([
        encodeFields([{ name: 'x', value: 'y'.repeat(200) }]),
        Buffer.from('4001610162', 'hex'),
      ]),
    );
    expect([list.isTooLong, list.length]).toEqual([true, 0]);
    decode(Buffer.from('be', 'hex'));
    expect([list.isTooLong, list.names, list.values]).toEqual([false, ['a'], ['b']]);
    decode(Buffer.from('82828282', 'hex'));
    expect(list.isTooLong).toBe(true);
  });

  test('a block that names one long entry again and again yields no more than the limit', () => {
    const decoder = newDecoder();
    const list = new FieldList();
    const value = 'v'.repeat(4000);
    const insert = Buffer.from(encodeFields([{ name: 'a', value }]));
    insert[0] = 0x40;
    const bomb = Buffer.concat([insert, Buffer.alloc(16_000, 0xbe)]);
    decoder.decode(bomb, { start: 0, end: bomb.length }, list);
    expect(list.isTooLong).toBe(true);
    expect(list.length).toBeLessThan(20);
  });
});

describe('decodeHuffman()', () => {
  test('gives back every byte as it is coded', () => {
    // RFC 7541 C.4.1 and C.6.1, and the rarest symbols of appendix B: 0x5c in 19 bits, 0x0a and 0xf9 in 30 and 28.
    const texts: readonly (readonly [hex: string, text: string])[] = [
      ['f1e3c2e5f23a6ba0ab90f4ff', 'www.example.com'],
      ['d07abe941054d444a8200595040b8166e082a62d1bff', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ['fffe1f', '\\'],
      ['fffffff3', '\n'],
    ];
    for (const [hex, text] of texts) {
      const bytes = Buffer.from(hex, 'hex');
      const target = Buffer.alloc(maxDecodedBytes(bytes.length));
      const length = decodeHuffman(bytes, { start: 0, end: bytes.length }, target);
      expect(target.toString('latin1', 0, length)).toBe(text);
    }
  });
});

describe('encodeFields()', () => {
  test('writes what is read as the same, whatever table the reader has', () => {
    const fields = [
      { name: ':status', value: '403' },
      { name: 'x', value: '' },
      { name: 'long', value: 'v'.repeat(20_000) },
      { name: 'secret', value: 'ÿ', isNeverIndexed: true },
    ];
    const block = encodeFields(fields);
    const list = new FieldList();
    const decoder = newDecoder();
    decoder.decode(block, { start: 0, end: block.length }, list);
    expect(list.names).toEqual(fields.map(({ name }) => name));
    expect(list.values).toEqual(fields.map(({ value }) => value));
    expect(list.isNeverIndexed).toEqual([false, false, false, true]);
    expect(refusalOf('be', decoder)).toBe(MALFORMED);
  });
});
