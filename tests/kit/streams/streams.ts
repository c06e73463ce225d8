import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { Child } from '../child.ts';
import type { TestHost } from '../netns.ts';
import { asUser, isListening } from '../programs.ts';
import { waitUntil } from '../wait.ts';

/** Many streams that never end by themselves: who is cut, when, and who is not. */

const endedStream = z.object({
  /** The client's own. */
  port: z.number(),
  http: z.boolean(),
  /** When its last byte came and when it ended, in milliseconds since 1970. */
  last: z.number(),
  ended: z.number(),
  how: z.string(),
});
const streamsReport = z.object({
  ended: z.array(endedStream),
  alive: z.number(),
  /** How many numbers the stream has said that is the furthest behind. */
  behind: z.number(),
  /** Numbers that were missing or came twice. */
  gaps: z.number(),
});

export type StreamsReport = z.output<typeof streamsReport>;

/** Where the service listens; 0: that kind is not asked for. */
export interface StreamPorts {
  readonly tcp: number;
  readonly http: number;
}

function python(program: 'service' | 'client', ...args: readonly (string | number)[]): readonly string[] {
  const text = readFileSync(join(import.meta.dirname, `${program}.py`), 'utf8');
  return ['/usr/bin/python3', '-c', text, ...args.map(String)];
}

/** Starts the service as a user. */
export async function startStreamService(
  host: TestHost,
  options: {
    readonly uid: number;
    readonly ports: StreamPorts;
    readonly intervalMs: number;
    readonly logFile: string;
  },
): Promise<Child> {
  const { uid, ports, intervalMs, logFile } = options;
  const service = new Child({
    command: host.in(...asUser(uid, ...python('service', ports.tcp, ports.http, intervalMs))),
    logFile,
    cwd: '/',
  });
  await service.ready('the service listens', async () => await isListening(host, ports.http));
  return service;
}

/** A client that holds streams. */
export class HeldStreams {
  readonly #child: Child;
  readonly #name: string;

  private constructor(child: Child, name: string) {
    this.#child = child;
    this.#name = name;
  }

  /** Opens them as a user and waits until each has said something. */
  static async open(
    host: TestHost,
    options: {
      readonly uid: number;
      readonly to: string;
      readonly ports: StreamPorts;
      readonly count: number;
      readonly logFile: string;
    },
  ): Promise<HeldStreams> {
    const { uid, to, ports, count, logFile } = options;
    const child = new Child({
      command: host.in(...asUser(uid, ...python('client', to, ports.tcp, ports.http, count))),
      logFile,
      cwd: '/',
      isTypedTo: true,
    });
    await child.ready(`${count} streams are open`, () => child.log().includes('open\n'), 120_000);
    return new HeldStreams(child, logFile);
  }

  /** How they stand now. */
  async report(): Promise<StreamsReport> {
    return streamsReport.parse(await this.#ask('report'));
  }

  /** Waits until so few are left. */
  async until(alive: number, withinMs: number): Promise<StreamsReport> {
    await waitUntil(
      `${alive} streams are left`,
      async () => z.number().parse(await this.#ask('alive')) <= alive,
      withinMs,
    );
    return await this.report();
  }

  async stop(): Promise<void> {
    await this.#child.stop('SIGKILL');
  }

  /** One question after another. */
  async #ask(what: 'alive' | 'report'): Promise<unknown> {
    const before = this.#lines().length;
    this.#child.type(`${what}\n`);
    const line = await waitUntil(`${this.#name} tells ${what}`, () => this.#lines()[before]);
    return JSON.parse(line);
  }

  #lines(): readonly string[] {
    return this.#child.log().split('\n').slice(0, -1);
  }
}
