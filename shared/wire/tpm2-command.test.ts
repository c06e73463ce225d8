import { describe, expect, test } from 'bun:test';
import vectors from '../../tests/vectors/tpm2.json';
import { buildTpmCommand, parseTpmResponse, readTpmMessageSize, TPM_HANDLE } from './tpm2-command.ts';
import { describeTpmResponseCode, isTpmBusy, isTpmRetryable, tpmErrorOf } from './tpm2-response-code.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

describe('buildTpmCommand()', () => {
  test('writes a command without authorizations', () => {
    const bytes = buildTpmCommand({ name: 'flushContext', parameters: hex('80000000') });
    expect(Buffer.from(bytes).toString('hex')).toBe('80010000000e0000016580000000');
  });

  test('writes the authorization area after the handles', () => {
    const bytes = buildTpmCommand({
      name: 'quote',
      handles: [0x8000_0000],
      authorizations: [{ session: TPM_HANDLE.password, password: hex('abcd') }],
      parameters: hex('0000'),
    });
    expect(Buffer.from(bytes).toString('hex')).toBe(
      '80020000001f00000158800000000000000b400000090000010002abcd0000',
    );
  });

  test('refuses more than 4,096 bytes', () => {
    expect(() => buildTpmCommand({ name: 'quote', parameters: new Uint8Array(4090) })).toThrow(RangeError);
  });
});

describe('parseTpmResponse()', () => {
  test("finds the parameters of a TPM's answer to TPM2_Quote", () => {
    const response = parseTpmResponse(hex(vectors.attestationKeys.ecc.quoteResponse), { hasHandle: false });
    if (!response.isSuccess) throw new Error('the response is a success');
    const { quote, signature } = vectors.attestationKeys.ecc;
    const size = (quote.length / 2).toString(16).padStart(4, '0');
    expect(Buffer.from(response.parameters).toString('hex')).toBe(size + quote + signature);
  });

  test('gives the code of a refusal as a value', () => {
    const response = parseTpmResponse(hex('80010000000a0000018b'), { hasHandle: true });
    expect(response).toEqual({ isSuccess: false, responseCode: 0x18b });
  });

  test('refuses a size other than the announced one, and an unknown tag', () => {
    for (const bytes of ['80010000000b00000000', '80010000000a0000000000', '80030000000a00000000'])
      expect(() => parseTpmResponse(hex(bytes), { hasHandle: false })).toThrow(
        expect.objectContaining({ reason: 'tpm_structure_invalid' }),
      );
  });
});

describe('readTpmMessageSize()', () => {
  test('refuses sizes that no TPM sends', () => {
    for (const size of ['00000009', '00001001', 'ffffffff'])
      expect(() => readTpmMessageSize(hex(`8001${size}00000000`))).toThrow(
        expect.objectContaining({ reason: 'tpm_structure_invalid' }),
      );
  });
});

describe('describeTpmResponseCode()', () => {
  test('names the error and what it is about', () => {
    expect(describeTpmResponseCode(0x18b)).toBe('TPM_RC_HANDLE for handle 1 (0x18b)');
    expect(describeTpmResponseCode(0x2d5)).toBe('TPM_RC_SIZE for parameter 2 (0x2d5)');
    expect(describeTpmResponseCode(0x98e)).toBe('TPM_RC_AUTH_FAIL for session 1 (0x98e)');
    expect(describeTpmResponseCode(0x902)).toBe('TPM_RC_OBJECT_MEMORY (too many loaded objects) (0x902)');
    expect(describeTpmResponseCode(0x7ff_ffff)).toContain('unknown code');
  });

  test('has words for every code of twelve bits', () => {
    for (let code = 1; code < 0x1000; code++)
      expect(describeTpmResponseCode(code)).toContain(code.toString(16));
  });
});

describe('tpmErrorOf()', () => {
  test('leaves out the number and the kind', () => {
    expect([0x18b, 0x28b, 0x1cb, 0x98b, 0x902].map(tpmErrorOf)).toEqual([0x08b, 0x08b, 0x08b, 0x08b, 0x902]);
  });
});

describe('isTpmBusy()', () => {
  test('is a part of isTpmRetryable()', () => {
    const busy = Array.from({ length: 0x1000 }, (_, code) => code).filter(isTpmBusy);
    expect(busy).toEqual([0x908, 0x90a, 0x922]);
    expect(busy.every(isTpmRetryable)).toBe(true);
  });
});
