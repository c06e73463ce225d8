import { describe, expect, test } from 'bun:test';
import { buildProxyHeader } from './proxy-protocol.ts';

const FOUR = { address: Uint8Array.of(192, 0, 2, 1), port: 56_324 };
const OTHER_FOUR = { address: Uint8Array.of(192, 0, 2, 2), port: 443 };
const SIX = { address: Uint8Array.from({ length: 16 }, (_, i) => i + 1), port: 65_535 };
const SIGNATURE = '0d0a0d0a000d0a515549540a';

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('buildProxyHeader()', () => {
  test('writes TCP over IPv4 (PROXY protocol 2.2)', () => {
    const expected = `${SIGNATURE}2111000cc0000201c0000202dc0401bb`;
    expect(hexOf(buildProxyHeader(FOUR, OTHER_FOUR))).toBe(expected);
  });

  test('writes TCP over IPv6', () => {
    const six = '0102030405060708090a0b0c0d0e0f10';
    const expected = `${SIGNATURE}21210024${six}${six}ffffffff`;
    expect(hexOf(buildProxyHeader(SIX, SIX))).toBe(expected);
  });

  test('writes both ends as IPv6 where they are of different families', () => {
    const mapped = '00000000000000000000ffffc0000201';
    const six = '0102030405060708090a0b0c0d0e0f10';
    expect(hexOf(buildProxyHeader(FOUR, SIX))).toBe(`${SIGNATURE}21210024${mapped}${six}dc04ffff`);
    expect(hexOf(buildProxyHeader(SIX, FOUR))).toBe(`${SIGNATURE}21210024${six}${mapped}ffffdc04`);
  });
});
