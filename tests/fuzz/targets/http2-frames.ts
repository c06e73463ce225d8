import { PicketError } from '../../../shared/errors/errors.ts';
import {
  encodeFrame,
  encodeWindowUpdate,
  FRAME,
  type FrameHeader,
} from '../../../shared/wire/http2-frame.ts';
import { FrameReader, type FrameFate, type FrameSink } from '../../../shared/wire/http2-frame-reader.ts';
import { encodeSettings, parseSettings } from '../../../shared/wire/http2-settings.ts';
import {
  hexWords,
  outcomeOfRefusal,
  piecesOf,
  requireSame,
  requireThat,
  type FuzzTarget,
} from '../target.ts';

const MAX_WHOLE_BYTES = 1000;

/** Frames of HTTP/2: the same however their bytes are cut, and what passes is what came. */
export const target: FuzzTarget = {
  seeds: [
    Buffer.concat([
      encodeSettings(new Map([[3, 100]])),
      encodeFrame(FRAME.data, 1, { flags: 1, payload: Buffer.from('hello') }),
      encodeWindowUpdate(0, 7),
      encodeFrame(FRAME.priority, 3, { payload: Buffer.alloc(5) }),
      encodeFrame(FRAME.data, 3),
    ]),
    Buffer.concat([
      encodeFrame(FRAME.headers, 1, { payload: Buffer.alloc(40, 0x82) }),
      encodeSettings(new Map()),
    ]),
  ],
  dictionary: hexWords('000000', '000005', '0003e9', 'ffffff', '0400000000', '0001', '000600'),
  maxBytes: 4096,
  check(input) {
    const whole = new Notes();
    whole.read([input]);
    const pieces = new Notes();
    pieces.read(piecesOf(input));
    requireSame(pieces.summary, whole.summary, 'what comes in pieces');
    requireThat(whole.passedBytes <= input.length, 'more passed than came');
    return `${whole.shown.slice(0, 6).join()} ${whole.refusal}`;
  },
};

class Notes implements FrameSink {
  readonly hasWaiting = false;
  readonly shown: number[] = [];
  readonly #whole: string[] = [];
  #passed = Buffer.alloc(0);
  refusal = '';

  get passedBytes(): number {
    return this.#passed.length;
  }

  get summary(): unknown {
    return [this.shown, this.#whole, this.#passed.toString('hex'), this.refusal];
  }

  read(pieces: readonly Buffer[]): void {
    const reader = new FrameReader(this, MAX_WHOLE_BYTES);
    try {
      for (const piece of pieces) reader.take(piece);
    } catch (error) {
      if (!(error instanceof PicketError)) throw error;
      this.refusal = outcomeOfRefusal(error);
    }
  }

  onHeader({ type }: FrameHeader): FrameFate {
    this.shown.push(type);
    if (type === FRAME.headers || type === FRAME.settings) return 'whole';
    return type === FRAME.priority ? 'drop' : 'pass';
  }

  onFrame(
    { type }: FrameHeader,
    bytes: Buffer,
    range: { readonly start: number; readonly end: number },
  ): void {
    this.#whole.push(bytes.toString('hex', range.start, range.end));
    if (type !== FRAME.settings) return;
    const settings = parseSettings(bytes, range);
    const again = Buffer.from(encodeSettings(settings).subarray(9));
    requireSame(
      [...parseSettings(again, { start: 0, end: again.length })],
      [...settings],
      'SETTINGS read again',
    );
  }

  onPass(bytes: Buffer, start: number, end: number): void {
    this.#passed = Buffer.concat([this.#passed, bytes.subarray(start, end)]);
  }

  onBoundary(): void {
    throw new Error('Nothing waits');
  }
}
