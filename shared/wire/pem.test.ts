import { describe, expect, test } from 'bun:test';
import { generateKeyPairSync } from 'node:crypto';
import {
  decodePem,
  decodePemBlock,
  decodePemBlocks,
  encodePem,
  MAX_PEM_BLOCKS,
  MAX_PEM_CHARACTERS,
} from './pem.ts';

const PEM_INVALID: unknown = expect.objectContaining({ code: 'invalid_argument', reason: 'pem_invalid' });

describe('PEM', () => {
  test('encodePem() is read back for every length around a line', () => {
    for (let length = 1; length < 200; length++) {
      const der = new Uint8Array(length).fill(length);
      expect([...decodePemBlock('CERTIFICATE', encodePem('CERTIFICATE', der))]).toEqual([...der]);
    }
  });

  test('encodePem() and decodePemBlock() agree with what node:crypto writes', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const der = privateKey.export({ format: 'der', type: 'pkcs8' });
    const pem = privateKey.export({ format: 'pem', type: 'pkcs8' });
    expect(encodePem('PRIVATE KEY', der)).toBe(pem);
    expect(Buffer.from(decodePemBlock('PRIVATE KEY', pem))).toEqual(der);
  });

  test('decodePem() keeps the order, skips explanatory text and takes CRLF', () => {
    const text = `subject: a\r\n${encodePem('CERTIFICATE', Uint8Array.of(1)).replaceAll('\n', '\r\n')}and\n${encodePem('PUBLIC KEY', Uint8Array.of(2))}`;
    expect(decodePem(text).map((block) => [block.label, ...block.der])).toEqual([
      ['CERTIFICATE', 1],
      ['PUBLIC KEY', 2],
    ]);
    expect(decodePem('nothing here')).toEqual([]);
  });

  test('decodePem() refuses foreign labels, wrong ends and what is not canonical base64', () => {
    const refused = [
      '-----BEGIN DSA PRIVATE KEY-----\nAQ==\n-----END DSA PRIVATE KEY-----\n',
      '-----BEGIN CERTIFICATE----\nAQ==\n-----END CERTIFICATE-----\n',
      '-----BEGIN certificate-----\nAQ==\n-----END certificate-----\n',
      '-----BEGIN CERTIFICATE-----\nAQ==\n-----END PUBLIC KEY-----\n',
      '-----BEGIN CERTIFICATE-----\nAQ==\n',
      '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n',
      '-----BEGIN CERTIFICATE-----\nAQ\n-----END CERTIFICATE-----\n',
      '-----BEGIN CERTIFICATE-----\nAR==\n-----END CERTIFICATE-----\n',
      '-----BEGIN CERTIFICATE-----\nA-_=\n-----END CERTIFICATE-----\n',
      '-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n\nAQ==\n-----END CERTIFICATE-----\n',
      '-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nAQ==\n-----END CERTIFICATE-----\n',
    ];
    for (const text of refused) expect(() => decodePem(text)).toThrow(PEM_INVALID);
  });

  test('decodePem() refuses a text beyond its limits', () => {
    expect(() => decodePem(' '.repeat(MAX_PEM_CHARACTERS + 1))).toThrow(PEM_INVALID);
    const block = encodePem('CERTIFICATE', Uint8Array.of(1));
    expect(decodePem(block.repeat(MAX_PEM_BLOCKS)).length).toBe(MAX_PEM_BLOCKS);
    expect(() => decodePem(block.repeat(MAX_PEM_BLOCKS + 1))).toThrow(PEM_INVALID);
  });

  test('decodePemBlocks() and decodePemBlock() refuse other labels and counts', () => {
    const certificate = encodePem('CERTIFICATE', Uint8Array.of(1));
    const key = encodePem('PRIVATE KEY', Uint8Array.of(2));
    expect(decodePemBlocks('CERTIFICATE', certificate + certificate).length).toBe(2);
    for (const text of ['', key, certificate + key])
      expect(() => decodePemBlocks('CERTIFICATE', text)).toThrow(PEM_INVALID);
    expect(() => decodePemBlock('CERTIFICATE', certificate + certificate)).toThrow(PEM_INVALID);
  });
});
