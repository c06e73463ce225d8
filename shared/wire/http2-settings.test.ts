import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { encodeSettings, parseSettings, SETTING } from './http2-settings.ts';

const parse = (bytes: Buffer): unknown => parseSettings(bytes, { start: 0, end: bytes.length });

describe('parseSettings()', () => {
  test('takes the last value of each parameter, unknown ones too', () => {
    const frame = Buffer.from(
      encodeSettings(
        new Map([
          [SETTING.maxFrameSize, 0xff_ffff],
          [0xabcd, 0xffff_ffff],
        ]),
      ),
    );
    expect(frame.toString('hex')).toBe('00000c040000000000000500ffffffabcdffffffff');
    const payload = Buffer.concat([Buffer.from('000500004000', 'hex'), frame.subarray(9)]);
    expect(parse(payload)).toEqual(
      new Map([
        [5, 0xff_ffff],
        [0xabcd, 0xffff_ffff],
      ]),
    );
    expect(parse(Buffer.alloc(0))).toEqual(new Map());
  });

  test('refuses what is cut off or endless', () => {
    expect(reasonOf(() => parse(Buffer.alloc(7)))).toBe('http2_frame_size_error');
    expect(reasonOf(() => parse(Buffer.alloc(65 * 6)))).toBe('http2_enhance_your_calm');
    expect(reasonOf(() => parse(Buffer.alloc(64 * 6)))).toBeUndefined();
  });

  test.each<[number, number, string | undefined]>([
    [SETTING.enablePush, 1, undefined],
    [SETTING.enablePush, 2, 'http2_protocol_error'],
    [SETTING.enableConnectProtocol, 2, 'http2_protocol_error'],
    [SETTING.maxFrameSize, 16_383, 'http2_protocol_error'],
    [SETTING.maxFrameSize, 16_384, undefined],
    [SETTING.maxFrameSize, 0xff_ffff, undefined],
    [SETTING.maxFrameSize, 0x100_0000, 'http2_protocol_error'],
    [SETTING.initialWindowSize, 0x7fff_ffff, undefined],
    [SETTING.initialWindowSize, 0x8000_0000, 'http2_flow_control_error'],
  ])('checks parameter %d: %d', (identifier, value, reason) => {
    const frame = Buffer.from(encodeSettings(new Map([[identifier, value]])));
    expect(reasonOf(() => parse(frame.subarray(9)))).toBe(reason);
  });
});
