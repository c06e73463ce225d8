import { FieldList, HpackDecoder } from '../../shared/wire/hpack-decoder.ts';
import { encodeFields } from '../../shared/wire/hpack-encoder.ts';

/** How the trace context of a request is changed on its way (W3C Trace Context). */
export interface TraceFields {
  /** In the place of whatever it says. */
  readonly traceparent: string;
  /** Of a trace that begins here the state is nobody's. */
  readonly dropsTracestate: boolean;
}

const HEADER_LIMITS = { listBytes: 1 << 20, fields: 4096 } as const;
const CRLF_BYTES = 2;

/** The head of an HTTP/1.1 request, of which every line ends with CRLF and none is folded, with these fields. */
export function markHead(head: Uint8Array, fields: TraceFields): Uint8Array {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const pieces: Uint8Array[] = [];
  let from = 0;
  for (let at = bytes.indexOf('\r\n') + CRLF_BYTES; at > 1 && at < bytes.length - CRLF_BYTES;) {
    const next = bytes.indexOf('\r\n', at) + CRLF_BYTES;
    if (next < CRLF_BYTES) break;
    if (isReplaced(nameAt(bytes, at), fields)) {
      pieces.push(bytes.subarray(from, at));
      from = next;
    }
    at = next;
  }
  const end = bytes.length - CRLF_BYTES;
  pieces.push(bytes.subarray(from, end), Buffer.from(`traceparent: ${fields.traceparent}\r\n\r\n`));
  return Buffer.concat(pieces);
}

/** A header block of HTTP/2 that stands for itself, with these fields. */
export function markBlock(block: Uint8Array, fields: TraceFields): Uint8Array {
  const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  const decoder = new HpackDecoder(HEADER_LIMITS);
  decoder.allowTableBytes(0);
  const list = new FieldList();
  let from = decoder.decode(bytes, { start: 0, end: bytes.length }, list);
  const pieces: Uint8Array[] = [];
  for (const [index, name] of list.names.entries()) {
    if (!isReplaced(name, fields)) continue;
    pieces.push(bytes.subarray(from, list.starts[index]));
    from = list.ends[index] ?? bytes.length;
  }
  const own = encodeFields([{ name: 'traceparent', value: fields.traceparent, isNeverIndexed: false }]);
  return Buffer.concat([...pieces, bytes.subarray(from), own]);
}

/** In lower case; empty for what is much longer than any that is looked for. */
function nameAt(bytes: Buffer, at: number): string {
  const colon = bytes.indexOf(0x3a, at);
  return colon < 0 || colon - at > 32 ? '' : bytes.toString('latin1', at, colon).toLowerCase();
}

function isReplaced(name: string, { dropsTracestate }: TraceFields): boolean {
  return name === 'traceparent' || (dropsTracestate && name === 'tracestate');
}
