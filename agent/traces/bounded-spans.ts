import { ExportResultCode, type ExportResult } from '@opentelemetry/core';
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace';
import type { Clock } from '../../shared/runtime/clock.ts';
import { CrowdReport } from '../../shared/runtime/crowd-report.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { FairShare } from '../proxy/connections/fair-share.ts';
import { callerOf } from './span-attributes.ts';

export interface BoundedSpansOptions {
  readonly exporter: SpanExporter;
  /** Where spans go: for the log. */
  readonly endpoint: string;
  readonly clock: Clock;
  readonly log: Log;
  /** So many spans were lost: the queue was full, or the receiver did not take them. */
  readonly onLost: (why: 'queue_full' | 'not_taken', count: number) => void;
}

/** Spans that wait for the receiver, and those on their way to it, at once. */
export const MAX_SPANS = 4096;
const BATCH = 512;
const EVERY_MS = 1000;
const TIMEOUT_MS = 10_000;

/**
 * Sends spans in batches, off the path of requests. What does not fit, and what the receiver does not take, is dropped and told. However many spans a caller has made, or all
 * who proved nothing have, they leave places to those of others (`FairShare`).
 */
export class BoundedSpans implements SpanProcessor {
  readonly #options: BoundedSpansOptions;
  readonly #batches: BatchSpanProcessor;
  readonly #report: CrowdReport<'queue_full' | 'not_taken'>;
  readonly #pending = new FairShare(MAX_SPANS);

  constructor(options: BoundedSpansOptions) {
    this.#options = options;
    this.#report = new CrowdReport({ event: 'spans_lost', clock: options.clock, log: options.log });
    this.#batches = new BatchSpanProcessor({
      exporter: this.#counting(options.exporter),
      maxQueueSize: 2 * MAX_SPANS,
      maxExportBatchSize: BATCH,
      scheduledDelayMillis: EVERY_MS,
      exportTimeoutMillis: TIMEOUT_MS,
    });
  }

  onStart(): void {
    // Nothing is to be known of a span before it ends.
  }

  onEnd(span: ReadableSpan): void {
    const caller = callerOf(span);
    if (!this.#pending.hasRoomFor(caller)) return this.#lose('queue_full', 1);
    this.#pending.add(caller, 1);
    this.#batches.onEnd(span);
  }

  async forceFlush(): Promise<void> {
    await this.#batches.forceFlush();
  }

  async shutdown(): Promise<void> {
    await this.#batches.shutdown();
  }

  #lose(why: 'queue_full' | 'not_taken', count: number): void {
    this.#report.note(why, this.#options.endpoint);
    this.#options.onLost(why, count);
  }

  #counting(exporter: SpanExporter): SpanExporter {
    return {
      export: (spans, tell) => {
        exporter.export(spans, (result: ExportResult) => {
          for (const span of spans) this.#pending.add(callerOf(span), -1);
          if (result.code !== ExportResultCode.SUCCESS) this.#lose('not_taken', spans.length);
          tell(result);
        });
      },
      shutdown: async () => await exporter.shutdown(),
    };
  }
}
