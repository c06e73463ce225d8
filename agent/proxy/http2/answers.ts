import { EMPTY_TABLE, encodeFields, type EncodedField } from '../../../shared/wire/hpack-encoder.ts';
import { encodeFrame, FLAG, FRAME } from '../../../shared/wire/http2-frame.ts';
import { buildDenialBody } from '../relays/denial-response.ts';
import type { Judgement } from '../judge/judge.ts';

/** How a refusal is answered over HTTP/2. */
export interface Http2AnswerOptions {
  readonly streamId: number;
  readonly status: number;
  readonly isGrpc: boolean;
  /** An answer to HEAD has no body. */
  readonly isHead: boolean;
  /** Whether the client has made its header table smaller than it was, and waits to be told so at the front of a block (RFC 7541 4.2). */
  readonly hasSmallTable: boolean;
  /** Whether the client's windows take a body of so many bytes; asked once, for a body that then goes. */
  readonly takesBody: (bytes: number) => boolean;
}

/** gRPC's own status for an HTTP status, as its HTTP mapping has it; any other denial is PERMISSION_DENIED. */
const GRPC_STATUS: Readonly<Record<number, number>> = {
  400: 13,
  401: 16,
  404: 12,
  429: 14,
  431: 13,
  502: 14,
  503: 14,
  504: 14,
};
const PERMISSION_DENIED = 7;

/** The frames of the answer to a request that was refused, with the end of the stream: what `buildDenialResponse` says on HTTP/1.1, and for gRPC a status without messages ("Trailers-Only"). */
export function buildHttp2Denial(judgement: Judgement, options: Http2AnswerOptions): Uint8Array {
  return options.isGrpc ? buildGrpcDenial(judgement, options) : buildHttpDenial(judgement, options);
}

function buildHttpDenial(judgement: Judgement, options: Http2AnswerOptions): Uint8Array {
  const { status, streamId, isHead, takesBody } = options;
  const body = Buffer.from(buildDenialBody(judgement));
  const hasBody = !isHead && takesBody(body.length);
  const head = headersFrame(options, !hasBody, [
    { name: ':status', value: String(status) },
    { name: 'content-type', value: 'application/json' },
    // Without room for the body, a length would promise one.
    ...(hasBody || isHead ? [{ name: 'content-length', value: String(body.length) }] : []),
    { name: 'cache-control', value: 'no-store' },
    { name: 'server', value: 'picket' },
  ]);
  if (!hasBody) return head;
  return Buffer.concat([head, encodeFrame(FRAME.data, streamId, { flags: FLAG.endStream, payload: body })]);
}

function buildGrpcDenial({ decisionId, verdict }: Judgement, options: Http2AnswerOptions): Uint8Array {
  return headersFrame(options, true, [
    { name: ':status', value: '200' },
    { name: 'content-type', value: 'application/grpc' },
    { name: 'grpc-status', value: String(GRPC_STATUS[options.status] ?? PERMISSION_DENIED) },
    { name: 'grpc-message', value: percentEncode(verdict.message) },
    { name: 'picket-decision-id', value: decisionId },
    { name: 'picket-reason', value: verdict.reason },
  ]);
}

/** A table that the client has not made smaller is left as it is: some servers (Bun's among them) keep one although they were told to have none. */
function headersFrame(
  { streamId, hasSmallTable }: Http2AnswerOptions,
  isEnd: boolean,
  fields: readonly EncodedField[],
): Uint8Array {
  const flags = FLAG.endHeaders | (isEnd ? FLAG.endStream : 0);
  const block = encodeFields(fields);
  const payload = hasSmallTable ? Buffer.concat([Buffer.of(EMPTY_TABLE), block]) : block;
  return encodeFrame(FRAME.headers, streamId, { flags, payload });
}

/** gRPC's Percent-Encoded: visible ASCII and blanks but the percent sign stand for themselves. */
function percentEncode(text: string): string {
  let encoded = '';
  for (const byte of Buffer.from(text))
    encoded +=
      byte >= 0x20 && byte < 0x7f && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return encoded;
}
