import { failureFrame, readFailure } from '../../../agent/proxy/tunnel/failure.ts';
import { PicketError } from '../../../shared/errors/errors.ts';
import {
  encodeFrame,
  FrameDecoder,
  MAX_FRAME_TEXT_BYTES,
  type TunnelFrame,
} from '../../../shared/wire/tunnel-frame.ts';
import {
  hexWords,
  outcomeOfRefusal,
  piecesOf,
  requireSame,
  requireThat,
  type FuzzTarget,
} from '../target.ts';

const ID = '01900000-0000-7000-8000-000000000001';
const OPEN: TunnelFrame = {
  type: 'open',
  connectionId: ID,
  destination: { address: Uint8Array.of(10, 0, 0, 1), port: 80 },
  source: { address: new Uint8Array(16).fill(0xfe), port: 40_000 },
};
const DENY: TunnelFrame = { type: 'deny', reasonCode: 3, decisionId: ID, text: 'not allowed — no' };

/** The tunnel: the same frames and bytes however they are cut, and every control frame is written again as it was read. */
export const target: FuzzTarget = {
  seeds: [
    Buffer.concat([encodeFrame(OPEN), Buffer.from('0400000568656c6c6f05000000', 'hex')]),
    Buffer.concat([encodeFrame({ type: 'accept' }), encodeFrame({ type: 'ping' }), encodeFrame(DENY)]),
    encodeFrame({ ...DENY, type: 'reset', text: 'x'.repeat(MAX_FRAME_TEXT_BYTES) }),
    Buffer.from('0400000568656c6c6f', 'hex'),
  ],
  dictionary: hexWords(
    '01000000',
    '02000000',
    '03000211',
    '04000001',
    '04ffffff',
    '05000000',
    '06000011',
    '07000000',
    '08000000',
    '09000000',
    '0a000000',
    'c328',
    'efbbbf',
  ),
  maxBytes: 8192,
  check(input) {
    const whole = decode([input]);
    requireSame(decode(piecesOf(input)), whole, 'what comes in pieces');
    for (const frame of whole.frames) {
      requireRoundTrip(frame);
      if (frame.type === 'deny' || frame.type === 'reset') requireSameFailure(frame);
    }
    const ways = whole.frames.map(({ type }) => type).slice(0, 5);
    return `${ways.join()} ${whole.dataBytes > 0} ${whole.refusal}`;
  },
};

interface Decoded {
  readonly frames: readonly TunnelFrame[];
  readonly dataBytes: number;
  readonly refusal: string;
}

function decode(pieces: readonly Buffer[]): Decoded {
  const decoder = new FrameDecoder();
  const frames: TunnelFrame[] = [];
  let dataBytes = 0;
  const sink = {
    onData: (bytes: Uint8Array, start: number, end: number) => {
      requireThat(start >= 0 && start < end && end <= bytes.length, 'a range of data is not in the bytes');
      dataBytes += end - start;
    },
    onFrame: (frame: TunnelFrame) => frames.push(frame),
  };
  try {
    for (const piece of pieces) decoder.decode(piece, sink);
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    return { frames, dataBytes, refusal: outcomeOfRefusal(error) };
  }
  return { frames, dataBytes, refusal: '' };
}

/** What a frame tells is told again by the frame that is made of it. */
function requireSameFailure(frame: Parameters<typeof readFailure>[0]): void {
  const failure = readFailure(frame);
  requireSame(readFailure(failureFrame(frame.type, failure)), failure, 'a failure told again');
}

function requireRoundTrip(frame: TunnelFrame): void {
  // Text that was not UTF-8 is read with replacements, which are longer: only its form is kept then.
  const again = decode([Buffer.from(encodeFrame(frame))]).frames[0];
  const isSameText = !('text' in frame) || Buffer.byteLength(frame.text) <= MAX_FRAME_TEXT_BYTES;
  if (isSameText) requireSame(again, frame, 'a frame read again');
  else requireSame(again?.type, frame.type, 'the type of a frame read again');
}
