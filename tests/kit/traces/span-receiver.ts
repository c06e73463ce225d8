import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { Child } from '../child.ts';
import type { TestHost } from '../netns.ts';
import { isListening } from '../programs.ts';
import { waitUntil } from '../wait.ts';

const PORT = 4318;

/** Settings of an agent that sends every span to the receiver of its host. */
export const TRACES = { endpoint: `http://127.0.0.1:${PORT}/v1/traces`, ratio: 1 } as const;

/** A span as the OpenTelemetry protocol has it in JSON. */
const spanSchema = z.object({
  traceId: z.string(),
  spanId: z.string(),
  parentSpanId: z.string().optional(),
  name: z.string(),
  kind: z.number(),
  startTimeUnixNano: z.string(),
  endTimeUnixNano: z.string(),
  attributes: z.array(z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) })),
});
export type ReceivedSpan = z.output<typeof spanSchema>;

/** Kinds of spans, as the protocol has them. */
export const KIND = { server: 2, client: 3 } as const;

/** Takes the spans of one host. */
export class SpanReceiver {
  readonly #child: Child;
  readonly #file: string;

  private constructor(child: Child, file: string) {
    this.#child = child;
    this.#file = file;
  }

  /** Starts it and waits until it listens: what is sent before is lost. */
  static async start(host: TestHost, folder: string): Promise<SpanReceiver> {
    const file = join(folder, `spans-${host.name}`);
    const script = join(import.meta.dirname, 'receiver.ts');
    const child = new Child({
      command: host.in(process.execPath, script, file, String(PORT)),
      logFile: `${file}.log`,
    });
    await child.ready('the receiver listens', async () => await isListening(host, PORT));
    return new SpanReceiver(child, file);
  }

  /** What has come so far. */
  get spans(): readonly ReceivedSpan[] {
    if (!existsSync(this.#file)) return [];
    const lines = readFileSync(this.#file, 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => spanSchema.parse(JSON.parse(line)));
  }

  /** The last span that fits, once it has come. */
  async find(fits: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan> {
    return await waitUntil('the receiver has the span', () => this.spans.findLast(fits), 30_000);
  }

  /** The last span that has these attributes, once it has come. */
  async findWith(attributes: Readonly<Record<string, unknown>>): Promise<ReceivedSpan> {
    return await this.find((span) => {
      const found = attributesOf(span);
      return Object.entries(attributes).every(([key, value]) => found[key] === value);
    });
  }

  async stop(): Promise<void> {
    await this.#child.stop();
  }
}

/** The attributes of a span by their names. */
export function attributesOf({ attributes }: ReceivedSpan): Readonly<Record<string, unknown>> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
