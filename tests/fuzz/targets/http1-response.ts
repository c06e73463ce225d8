import { ResponseReader } from '../../../agent/proxy/http1/responses.ts';
import { PicketError } from '../../../shared/errors/errors.ts';
import { HTTP1_WORDS } from '../http1-words.ts';
import { readSloppily } from '../sloppy-http1.ts';
import { outcomeOfRefusal, piecesOf, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Answers: they pass unchanged, or with one word of the connection's end, end at one place in pieces or whole, and end there for a careless second reader. */
export const target: FuzzTarget = {
  seeds: words(
    'HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 5\r\n\r\nhello',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n',
    'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello',
    'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n',
  ),
  dictionary: HTTP1_WORDS,
  maxBytes: 8192,
  check(input) {
    return [false, true].map((isHead) => checkAnswerTo(input, isHead)).join(' | ');
  },
};

interface Answer {
  readonly passed: Buffer;
  readonly way: string;
}

function checkAnswerTo(input: Buffer, isHead: boolean): string {
  const whole = read([input], isHead);
  const cut = read(piecesOf(input), isHead);
  requireSame(cut.way, whole.way, 'the way of what comes in pieces');
  requireThat(
    Buffer.compare(whole.passed, input.subarray(0, whole.passed.length)) === 0,
    'an answer was changed',
  );
  if (whole.way === 'complete') requireSame(cut.passed, whole.passed, 'what passed in pieces');
  if (whole.way === 'complete' && !isHead) requireSameEnd(whole.passed);
  const last = read([input], isHead, true);
  requireSame(last.way, whole.way, 'the way of a last answer');
  if (whole.way === 'complete' && !isHead) requireSameEnd(last.passed);
  return whole.way;
}

/** Interim answers come before the one that counts; 204 and 304 have no body, whatever their fields say. */
function requireSameEnd(passed: Buffer): void {
  let at = 0;
  for (;;) {
    const status = Number(passed.toString('latin1', at + 9, at + 12));
    const headEnd = passed.indexOf('\r\n\r\n', at) + 4;
    if (status === 204 || status === 304)
      return requireSame(headEnd, passed.length, 'the end of an answer without a body');
    if (status >= 200) break;
    at = headEnd;
  }
  const [answer] = readSloppily(passed.subarray(at), 'response');
  requireSame(answer?.end, passed.length - at, 'the end of an answer for a second reader');
}

/** Bytes behind an answer come with its end or after it: that depends on how they are cut, and they are refused either way. */
function isExcess({ message }: PicketError): boolean {
  return /answers (?:more than was asked|no request)$/.test(message);
}

function read(pieces: readonly Buffer[], isHead: boolean, isLast = false): Answer {
  const reader = new ResponseReader();
  const passed: Buffer[] = [];
  let way = 'goes on';
  const sink = {
    onBytes: (bytes: Uint8Array) => passed.push(Buffer.from(bytes)),
    isLast: () => isLast,
    onComplete: () => {
      way = 'complete';
    },
    onUpgrade: () => {
      way = 'upgraded';
    },
  };
  reader.expect({ isHead, wantsUpgrade: true });
  try {
    for (const piece of pieces) {
      reader.take(piece, sink);
    }
    if (way === 'goes on' && !reader.end(sink)) way = 'cut off';
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    way = isExcess(error) ? 'more than was asked' : `${way}: ${outcomeOfRefusal(error)}`;
  }
  return { passed: Buffer.concat(passed), way };
}
