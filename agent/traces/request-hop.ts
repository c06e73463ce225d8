import { SpanKind, SpanStatusCode, TraceFlags, type Attributes, type Span } from '@opentelemetry/api';
import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { Judgement } from '../proxy/judge/judge.ts';
import { attributesOfJudgement, attributesOfParties, kindOf } from './span-attributes.ts';
import { markBlock, markHead, type TraceFields } from './trace-fields.ts';
import type { Hop, TracedRequest } from './traces.ts';

const MAX_PATH = 1024;
const MAX_HOST = 255;
/** RFC 9110 9 and PATCH: other names would be as many as a client likes. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']);

/** The span of a request. */
export class RequestHop implements Hop {
  readonly traceId: string;
  readonly #span: Span;
  readonly #fields: TraceFields;
  readonly #firstError: number;
  #status = 0;
  #hasEnded = false;

  /** `isRoot`: the trace begins here. */
  constructor(
    span: Span,
    { encounter, isRoot }: Pick<TracedRequest, 'encounter'> & { readonly isRoot: boolean },
  ) {
    const { traceId, spanId, traceFlags } = span.spanContext();
    this.traceId = traceId;
    this.#span = span;
    // What a client did wrong is no error of the server (semantic conventions for HTTP spans).
    this.#firstError = kindOf(encounter) === SpanKind.CLIENT ? 400 : 500;
    const flags = (traceFlags & TraceFlags.SAMPLED) === 0 ? '00' : '01';
    this.#fields = { traceparent: `00-${traceId}-${spanId}-${flags}`, dropsTracestate: isRoot };
  }

  judged(judgement: Judgement, status = judgement.verdict.httpStatus): void {
    this.#span.setAttributes(attributesOfJudgement(judgement));
    if (judgement.verdict.isAllowed) return;
    this.#status = status;
    this.end();
  }

  markHead(head: Uint8Array): Uint8Array {
    return markHead(head, this.#fields);
  }

  markBlock(block: Uint8Array): Uint8Array {
    return markBlock(block, this.#fields);
  }

  /** `HTTP/1.1 200`: interim answers (1xx) are followed by another head. */
  seeAnswer(bytes: Uint8Array): void {
    if (this.#status >= 200) return;
    this.#status = Number(Buffer.from(bytes.subarray(9, 12)).toString('latin1'));
  }

  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (this.#status > 0) this.#span.setAttribute('http.response.status_code', this.#status);
    if (this.#status >= this.#firstError) this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end();
  }
}

/** The name of a request's span: one of few. */
export function nameOfRequest(http: DecisionHttpRequest): string {
  if (isGrpc(http)) return pathOf(http).slice(1);
  return METHODS.has(http.method) ? http.method : 'HTTP';
}

/** By the semantic conventions of OpenTelemetry; without the query, which may hold secrets. */
export function attributesOfRequest({ encounter, http, connectionId }: TracedRequest): Attributes {
  const [, service = '', method = ''] = isGrpc(http) ? pathOf(http).split('/') : [];
  const scheme = http.scheme ?? 'http';
  return {
    ...attributesOfParties(encounter, connectionId),
    'http.request.method': METHODS.has(http.method) ? http.method : '_OTHER',
    'url.path': pathOf(http),
    'url.scheme': scheme,
    'network.protocol.name': 'http',
    'network.protocol.version': http.protocol === 'HTTP/2' ? '2' : '1.1',
    ...(kindOf(encounter) === SpanKind.SERVER
      ? {}
      : { 'url.full': `${scheme}://${http.host.slice(0, MAX_HOST)}${pathOf(http)}` }),
    ...(service === '' ? {} : { 'rpc.system': 'grpc', 'rpc.service': service, 'rpc.method': method }),
  };
}

function pathOf({ path }: DecisionHttpRequest): string {
  return (path.split('?', 1)[0] ?? '').slice(0, MAX_PATH);
}

function isGrpc({ headers, protocol }: DecisionHttpRequest): boolean {
  return protocol === 'HTTP/2' && headers['content-type']?.startsWith('application/grpc') === true;
}
