import { RandomIdGenerator, type IdGenerator } from '@opentelemetry/sdk-trace';

/** Ids of the next span, each random unless chosen. */
export interface SpanIds {
  readonly traceId?: string;
  readonly spanId?: string;
}

const RANDOM: SpanIds = {};

/** Ids of spans that may be chosen before a span is started, which takes them in the same call. */
export class ChosenIds implements IdGenerator {
  readonly #random = new RandomIdGenerator();
  #chosen = RANDOM;

  /** Does `start`, which starts one span with these ids. */
  with<T>(ids: SpanIds, start: () => T): T {
    this.#chosen = ids;
    try {
      return start();
    } finally {
      this.#chosen = RANDOM;
    }
  }

  generateTraceId(): string {
    return this.#chosen.traceId ?? this.#random.generateTraceId();
  }

  generateSpanId(): string {
    return this.#chosen.spanId ?? this.#random.generateSpanId();
  }
}
