import { PicketError } from '../errors/errors.ts';
import { HTTP2_ERROR, type Http2ErrorName } from './http2-frame.ts';

/** What ends a connection: `invalid_argument`, its reason `http2_` and the name of the error that the peer is told (RFC 9113 5.4.1). */
export function http2Failure(error: Http2ErrorName, why: string): PicketError {
  return new PicketError('invalid_argument', `http2_${error}`, `Cannot relay HTTP/2: ${why}`);
}

/** The error that the peer is told of what `http2Failure` made; `internal_error` of anything else, which is a fault of ours. */
export function http2ErrorOf({ reason }: PicketError): Http2ErrorName {
  const name = reason.replace(/^http2_/, '');
  return Object.hasOwn(HTTP2_ERROR, name) ? (name as Http2ErrorName) : 'internal_error';
}
