import {
  ROOT_CONTEXT,
  SpanKind,
  trace,
  TraceFlags,
  type Context,
  type Span,
  type SpanContext,
  type Tracer,
} from '@opentelemetry/api';
import { parseTraceParent } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  ParentBasedSampler,
  SamplingDecision,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import type { Agent } from 'node:http';
import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import { failureOf } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { BoundedSpans, type BoundedSpansOptions } from './bounded-spans.ts';
import { ChosenIds } from './chosen-ids.ts';
import { ConnectionPassage } from './connection-passage.ts';
import { traceOfConnection } from './connection-trace.ts';
import { attributesOfRequest, nameOfRequest, RequestHop } from './request-hop.ts';
import { kindOf } from './span-attributes.ts';
import type { Hop, Passage, TracedConnection, TracedRequest, Traces } from './traces.ts';

/** What is asked for. */
export interface TracesConfig {
  /** URL of an OTLP receiver over HTTP, path included. */
  readonly endpoint: string;
  /** PEM file: who certifies an https receiver; the host's authorities unless given. */
  readonly caFile: string | undefined;
  /** Of traces, from 0 to 1, that are recorded. */
  readonly ratio: number;
  /** Whether a request's own trace context says if it is recorded; the ratio otherwise. */
  readonly isParentBased: boolean;
}

export interface OpenTelemetryOptions extends Pick<BoundedSpansOptions, 'clock' | 'log' | 'onLost'> {
  readonly config: TracesConfig;
  /** Makes the connections to the receiver. */
  readonly agent: Agent;
}

const TIMEOUT_MS = 10_000;
const STOP_MS = 2000;

/** Traces by the OpenTelemetry SDK, sent by OTLP over HTTP in JSON. */
export class OpenTelemetryTraces implements Traces, Running {
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;
  readonly #ratio: TraceIdRatioBasedSampler;
  readonly #isParentBased: boolean;
  readonly #ids = new ChosenIds();
  readonly #clock: Clock;

  constructor({ config, agent, ...rest }: OpenTelemetryOptions) {
    this.#clock = rest.clock;
    const exporter = new OTLPTraceExporter({
      url: config.endpoint,
      timeoutMillis: TIMEOUT_MS,
      httpAgentOptions: () => agent,
    });
    const ratio = new TraceIdRatioBasedSampler(config.ratio);
    this.#ratio = ratio;
    this.#isParentBased = config.isParentBased;
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({ 'service.name': 'picket-agent' }),
      spanProcessors: [new BoundedSpans({ exporter, endpoint: config.endpoint, ...rest })],
      sampler: config.isParentBased ? new ParentBasedSampler({ root: ratio }) : ratio,
      idGenerator: this.#ids,
    });
    this.#tracer = this.#provider.getTracer('picket');
  }

  begin(request: TracedRequest): Hop {
    const { encounter, http } = request;
    const parent = findParent(http);
    const span = this.#tracer.startSpan(
      nameOfRequest(http),
      { kind: kindOf(encounter), attributes: attributesOfRequest(request) },
      parent ?? ROOT_CONTEXT,
    );
    return new RequestHop(span, { encounter, isRoot: parent === undefined });
  }

  /** Recorded by the ratio, and by the trace's id, so that hosts with the same ratio record the same ones. */
  beginPassage(connection: TracedConnection): Passage {
    const kind = connection.side === 'calling' ? SpanKind.CLIENT : SpanKind.SERVER;
    return new ConnectionPassage(this.#startPassage(connection, kind), connection);
  }

  #startPassage(connection: TracedConnection, kind: SpanKind): Span {
    const above = this.#findAbove(connection);
    if (above !== undefined)
      return this.#tracer.startSpan('connection', { kind }, trace.setSpanContext(ROOT_CONTEXT, above));
    const { traceId, callingSpanId: spanId } = traceOfConnection(connection.connectionId);
    return this.#ids.with({ traceId, spanId }, () =>
      this.#tracer.startSpan('connection', { kind }, ROOT_CONTEXT),
    );
  }

  /**
   * The calling side's span. Who says that he records his trace is believed where that counts of requests too; who says that he does not may never say anything else, as ztunnel.
   */
  #findAbove({ connectionId, isNamedByCaller, traceparent }: TracedConnection): SpanContext | undefined {
    const said = parseTraceParent(traceparent ?? '');
    if (said === null && !isNamedByCaller) return undefined;
    const { traceId, callingSpanId } = traceOfConnection(connectionId);
    const { traceFlags = TraceFlags.NONE, ...above } = said ?? { traceId, spanId: callingSpanId };
    const { decision } = this.#ratio.shouldSample(ROOT_CONTEXT, above.traceId);
    const isRecordedThere = this.#isParentBased && (traceFlags & TraceFlags.SAMPLED) !== 0;
    const isRecorded = isRecordedThere || decision === SamplingDecision.RECORD_AND_SAMPLED;
    return { ...above, traceFlags: isRecorded ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true };
  }

  /** Sends what waits, within two seconds: a receiver that does not answer must not hold up the end of the agent. What was lost is told by then. */
  async stop(): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<undefined>();
    const cancel = this.#clock.schedule(STOP_MS, () => resolve(undefined));
    await Promise.race([failureOf(this.#provider.shutdown()), late]);
    cancel();
  }
}

/** The caller's span, by its trace context; undefined without one, or where it is malformed: then a new trace begins (W3C Trace Context 3.2). */
function findParent({ headers }: DecisionHttpRequest): Context | undefined {
  const parent = parseTraceParent(headers['traceparent'] ?? '');
  return parent === null ? undefined : trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true });
}
