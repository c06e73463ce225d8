import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { Child } from './child.ts';
import type { TestHost } from './netns.ts';
import { asUser } from './programs.ts';

const streamTold = z.object({
  port: z.number(),
  sent: z.number(),
  /** The first that was not answered, and how many one after the other. */
  gaps: z.array(z.tuple([z.number(), z.number()])),
});
const beginTold = z.object({
  /** The port of each flow, and its how many-th datagram was answered; -1: none was within a minute. */
  flows: z.array(z.tuple([z.number(), z.number()])),
});

/** What became of one socket's datagrams. */
export type StreamTold = z.output<typeof streamTold>;

/** For the last answers. */
const GRACE_MS = 80_000;

/** Who sends what to an echo, and how often. */
export interface SteadySending {
  readonly on: Pick<TestHost, 'in'>;
  readonly uid: number;
  readonly to: string;
  readonly port: number;
  readonly everyMs: number;
  /** One word, with which each datagram begins. */
  readonly text: string;
}

/** Programs that go on sending UDP (steady-datagrams.py), and tell at their end what became of it. */
export class SteadyDatagrams {
  readonly #folder: string;
  readonly #script: string;

  /** `folder` is made, and holds what they say. */
  constructor(folder: string) {
    mkdirSync(folder, { mode: 0o755 });
    this.#folder = folder;
    this.#script = join(folder, 'steady-datagrams.py');
    cpSync(join(import.meta.dirname, 'steady-datagrams.py'), this.#script);
  }

  /** Sends from one socket; what it returns ends that, and says what was answered. */
  async stream(sending: SteadySending): Promise<() => Promise<StreamTold>> {
    const end = await this.#start('stream', sending);
    return async () => streamTold.parse(JSON.parse(await end()));
  }

  /** Begins one flow after the other; what it returns ends that, and says by which of its datagrams each was answered. */
  async begin(sending: SteadySending): Promise<() => Promise<z.output<typeof beginTold>>> {
    const end = await this.#start('begin', sending);
    return async () => beginTold.parse(JSON.parse(await end()));
  }

  async #start(
    how: string,
    { on, uid, to, port, everyMs, text }: SteadySending,
  ): Promise<() => Promise<string>> {
    const words = [this.#script, how, to, String(port), String(everyMs / 1000), text];
    const child = new Child({
      command: on.in(...asUser(uid, '/usr/bin/python3', ...words)),
      logFile: join(this.#folder, `${text}.log`),
      cwd: '/',
    });
    await child.ready(`${text} sends`, () => child.log().includes('started'));
    return async () => {
      await child.stop('SIGTERM', GRACE_MS);
      return child.log().trim().split('\n').at(-1) ?? '';
    };
  }
}
