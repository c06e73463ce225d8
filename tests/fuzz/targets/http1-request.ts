import { RequestReader } from '../../../agent/proxy/http1/requests.ts';
import { PicketError } from '../../../shared/errors/errors.ts';
import { rebuildHead, type RequestHead } from '../../../shared/wire/http1-head.ts';
import { HTTP1_WORDS } from '../http1-words.ts';
import { readSloppily, type SloppyMessage } from '../sloppy-http1.ts';
import { outcomeOfRefusal, piecesOf, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

const CERT_NAME = 'x-forwarded-client-cert';
const CERT_LINE = Buffer.from(`${CERT_NAME}: By=b;URI=spiffe://example.org/web\r\n`);

/** Requests: read alike however they are cut, and what the relay passes on is read alike by a careless second reader. */
export const target: FuzzTarget = {
  seeds: words(
    'GET /a?b=c HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n',
    'POST /pay HTTP/1.1\r\nHost: shop:80\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhelloGET / HTTP/1.1\r\nHost: shop\r\n\r\n',
    'POST /pay HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n',
    'GET http://shop/a HTTP/1.0\r\nHost: shop\r\nX-Forwarded-Client-Cert: URI=spiffe://evil/a\r\n\r\n',
    'GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n\r\n',
    'OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n',
  ),
  dictionary: HTTP1_WORDS,
  maxBytes: 8192,
  check(input) {
    const whole = read([input]);
    const cut = read(piecesOf(input));
    requireSame(cut.requests.map(shapeOf), whole.requests.map(shapeOf), 'requests that come in pieces');
    requireSame(cut.refusal, whole.refusal, 'the refusal of what comes in pieces');
    compareWithSloppy(whole.requests.filter(({ isComplete }) => isComplete));
    const ways = whole.requests.map(({ head, isComplete }) => wayOf(head, isComplete)).slice(0, 4);
    return `${ways.join()} ${whole.refusal}`;
  },
};

interface ReadRequest {
  readonly head: RequestHead;
  readonly firstLine: string;
  readonly forwardedHead: Uint8Array;
  readonly body: Buffer[];
  isComplete: boolean;
}

function read(pieces: readonly Buffer[]): {
  readonly requests: readonly ReadRequest[];
  readonly refusal: string;
} {
  const reader = new RequestReader();
  const requests: ReadRequest[] = [];
  const sink: Parameters<RequestReader['take']>[1] = {
    onHead: ({ head, bytes }) => {
      const range = { start: 0, end: bytes.length, cuts: head.cuts };
      const forwardedHead = rebuildHead(bytes, range, CERT_LINE);
      const firstLine = bytes.toString('latin1', 0, bytes.indexOf('\r\n'));
      requests.push({ head, firstLine, forwardedHead, body: [], isComplete: false });
    },
    onBody: (bytes) => requests.at(-1)?.body.push(Buffer.from(bytes)),
    onComplete: () => {
      const last = requests.at(-1);
      if (last !== undefined) last.isComplete = true;
    },
  };
  try {
    for (const piece of pieces) reader.take(piece, sink);
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    return { requests, refusal: outcomeOfRefusal(error) };
  }
  return { requests, refusal: '' };
}

/** A body that was not read to its end may have been passed on up to any byte. */
function shapeOf({ head, isComplete, forwardedHead, body }: ReadRequest): unknown {
  const bytes = isComplete ? Buffer.concat(body).toString('latin1') : '';
  return {
    ...head,
    headers: { ...head.headers },
    isComplete,
    forwarded: Buffer.from(forwardedHead).toString('latin1'),
    bytes,
  };
}

function compareWithSloppy(requests: readonly ReadRequest[]): void {
  const forwarded = Buffer.concat(requests.flatMap(({ forwardedHead, body }) => [forwardedHead, ...body]));
  const sloppy = readSloppily(forwarded);
  requireSame(sloppy.length, requests.length, 'the number of requests for a second reader');
  let start = 0;
  for (const [index, request] of requests.entries()) {
    const message = sloppy[index];
    if (message === undefined) return;
    const bodyStart = start + request.forwardedHead.length;
    requireSame(message.bodyStart, bodyStart, 'the begin of a body for a second reader');
    start = bodyStart + Buffer.concat(request.body).length;
    requireSame(message.end, start, 'the end of a body for a second reader');
    requireSameHead(message, request);
  }
}

function requireSameHead(message: SloppyMessage, { head, firstLine }: ReadRequest): void {
  const [method = '', requestTarget = ''] = message.firstLine;
  requireSame(message.firstLine, firstLine.split(' '), 'the request line for a second reader');
  requireSame(method, head.method, 'the method for a second reader');
  requireThat(requestTarget.endsWith(head.path) || head.path === '/', 'another path for a second reader');
  const certs = message.fields.filter(([name]) => name === CERT_NAME);
  requireSame(certs, [[CERT_NAME, 'By=b;URI=spiffe://example.org/web']], 'who calls for a second reader');
  requireThat(!message.fields.some(([name]) => name === 'http2-settings'), 'an offer of HTTP/2');
  const theirs = message.fields.filter(([name]) => name !== CERT_NAME).map(([name]) => name);
  const ours = Object.keys(head.headers).map((name) => name.replaceAll('_', '-'));
  requireSame(
    [...new Set(theirs)].toSorted(),
    [...new Set(ours)].toSorted(),
    'the fields for a second reader',
  );
  const hosts = message.fields.filter(([name]) => name === 'host').map(([, value]) => value);
  requireThat(
    head.host === '' || hosts.length === 0 || hosts[0]?.toLowerCase() === head.host,
    'another host for a second reader',
  );
}

function wayOf(head: RequestHead, isComplete: boolean): string {
  const flags = [
    head.isChunked,
    head.bodyBytes > 0,
    head.closes,
    head.expectsContinue,
    head.wantsUpgrade,
    isComplete,
  ];
  return flags.map((flag) => (flag ? 1 : 0)).join('') + (head.cuts.length > 0 ? 'c' : '');
}
