import { PicketError } from '../../../shared/errors/errors.ts';
import { FieldList, HpackDecoder } from '../../../shared/wire/hpack-decoder.ts';
import { encodeFields } from '../../../shared/wire/hpack-encoder.ts';
import { parseRequestHead } from '../../../shared/wire/http1-head.ts';
import { readRequestHead, readTrailers } from '../../../shared/wire/http2-request-head.ts';
import { attempt, outcomeOfRefusal, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Lines `name: value` as a block. */
const blockOf = (lines: string): Uint8Array =>
  encodeFields(
    lines.split('\n').map((line) => {
      const colon = line.indexOf(': ', 1);
      return { name: line.slice(0, colon), value: line.slice(colon + 2) };
    }),
  );

/** Heads of HTTP/2 requests: whatever is let through, HTTP/1.1 would let through with the same meaning. */
export const target: FuzzTarget = {
  seeds: [
    blockOf(
      ':method: GET\n:scheme: http\n:path: /a/b?c=d\n:authority: shop:80\naccept: */*\ncookie: a=b\ncookie: c=d',
    ),
    blockOf(
      ':method: POST\n:scheme: http\n:path: /t.T/U\n:authority: shop\ncontent-type: application/grpc\nte: trailers\ngrpc-timeout: 1S',
    ),
    blockOf(':method: CONNECT\n:scheme: http\n:path: /chat\n:authority: shop\n:protocol: websocket'),
    blockOf(
      ':method: OPTIONS\n:scheme: https\n:path: *\nhost: shop\nx-forwarded-client-cert: URI=x\ncontent-length: 3',
    ),
  ],
  dictionary: words(
    ':method',
    ':path',
    ':authority',
    ':protocol',
    'CONNECT',
    'host',
    'x-forwarded-client-cert',
    'x_forwarded_client_cert',
    'transfer-encoding',
    'connection',
    'te',
    '/../',
    '%2e',
    '//',
    '*',
    'A',
    '\r\n',
  ),
  maxBytes: 2048,
  check(input) {
    const list = new FieldList();
    try {
      new HpackDecoder({ listBytes: 8192, fields: 100 }).decode(input, { start: 0, end: input.length }, list);
    } catch (error) {
      if (!(error instanceof PicketError)) throw error;
      return outcomeOfRefusal(error);
    }
    const trailers = readTrailers(list);
    const read = readRequestHead(list);
    if (read.kind !== 'request') return `${read.kind} ${read.why.replaceAll(/\d+|%\w\w/g, 'N')}`;
    requireThat('malformed' in trailers, 'a request is taken for trailers');
    if (read.head.method !== 'CONNECT') requireSameOnHttp1(list, read.head);
    return `request ${read.head.owned.length} ${read.head.isGrpc} ${read.head.path.length > 8}`;
  },
};

/** The same request on HTTP/1.1 is let through, and the policy is asked the same. */
function requireSameOnHttp1(
  list: FieldList,
  head: { readonly method: string; readonly path: string; readonly host: string },
): void {
  const lines = list.names.flatMap((name, i) =>
    name.startsWith(':') || name === 'host' || name === 'te' ? [] : [`${name}: ${list.values[i] ?? ''}`],
  );
  const text = [`${head.method} ${head.path} HTTP/1.1`, `host: ${head.host}`, ...lines, '', ''].join('\r\n');
  const bytes = Buffer.from(text, 'latin1');
  const { value, refusal } = attempt(() => parseRequestHead(bytes, 0, bytes.length));
  requireSame(refusal?.message, undefined, 'HTTP/1.1 refuses it');
  requireSame(
    [value?.method, value?.path, value?.host],
    [head.method, head.path, head.host],
    'HTTP/1.1 reads it',
  );
}
