import { PicketError } from '../../../shared/errors/errors.ts';
import { BodyFollower } from '../../../shared/wire/http1-body.ts';
import { HTTP1_WORDS } from '../http1-words.ts';
import { endOfSloppyChunks } from '../sloppy-http1.ts';
import { outcomeOfRefusal, piecesOf, requireSame, words, type FuzzTarget } from '../target.ts';

/** Chunked bodies: they end at one place, in pieces or whole, for us and for a careless second reader. */
export const target: FuzzTarget = {
  seeds: words(
    '5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n',
    'A;name="value"\r\n0123456789\r\n000\r\nX-Checksum: abc\r\nY: z\r\n\r\n',
    '1 ; a\r\nx\r\n0;last\r\n\r\n',
  ),
  dictionary: HTTP1_WORDS,
  maxBytes: 24_000,
  check(input) {
    const whole = follow([input]);
    requireSame(follow(piecesOf(input)), whole, 'the end in pieces');
    if (typeof whole === 'number')
      requireSame(endOfSloppyChunks(input, 0), whole, 'the end for a second reader');
    return typeof whole === 'number' ? 'complete' : whole;
  },
};

/** Where the body ends, or why it does not. */
function follow(pieces: readonly Buffer[]): number | string {
  const follower = new BodyFollower();
  follower.beginChunked();
  let before = 0;
  try {
    for (const piece of pieces) {
      const end = follower.follow(piece, 0);
      if (!follower.isInBody) return before + end;
      before += piece.length;
    }
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    return outcomeOfRefusal(error);
  }
  return 'goes on';
}
