import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Child, run } from './child.ts';
import type { TestHost } from './netns.ts';
import { asUser } from './programs.ts';

/** What a program sends, and how. */
export interface Sending {
  readonly to: string;
  readonly port: number;
  /** Whether it calls connect(2). */
  readonly connects?: boolean;
  readonly count?: number;
  readonly size?: number;
  readonly sourcePort?: number;
}

/** What a program that goes on sends, and how its log is called. */
type Named = Sending & { readonly name: string };

/** How long it waits for an answer. */
type Patient = Sending & { readonly patienceSeconds?: number };

const PYTHON = '/usr/bin/python3';
/** What goes on sends this often, a tenth of a second apart, after each answer or a second without. */
const ON_AND_ON = 600;
const PATIENT_SECONDS = 20;

/** Real programs with UDP sockets (datagrams.py), which any user may run. */
export class DatagramPrograms {
  readonly script: string;
  readonly #folder: string;

  /** `folder` is made, and holds what they say. */
  constructor(folder: string) {
    mkdirSync(folder, { mode: 0o755 });
    this.#folder = folder;
    this.script = join(folder, 'datagrams.py');
    cpSync(join(import.meta.dirname, 'datagrams.py'), this.script);
  }

  /** An echo at ports of both families, which says what it got. */
  async serve(on: Pick<TestHost, 'in'>, ...ports: readonly number[]): Promise<Child> {
    const echo = new Child({
      command: on.in(PYTHON, this.script, 'serve', ...ports.map(String)),
      logFile: join(this.#folder, 'echo.log'),
    });
    await echo.ready('the echo serves', () => Promise.resolve(echo.log().includes('serving')));
    return echo;
  }

  /** What became of one datagram of a user within a second, without ports: `answered 0`, `silence 0`. */
  async ask(on: Pick<TestHost, 'in'>, uid: number, sending: Sending): Promise<string> {
    return await this.#ask(on, uid, sending);
  }

  /** As `ask`, of what must be answered, by a busy machine too. */
  async askPatiently(on: Pick<TestHost, 'in'>, uid: number, sending: Sending): Promise<string> {
    return await this.#ask(on, uid, { ...sending, patienceSeconds: PATIENT_SECONDS });
  }

  async #ask(on: Pick<TestHost, 'in'>, uid: number, sending: Patient): Promise<string> {
    const { stdout } = await run(this.#command(on, uid, sending), { cwd: '/' });
    return stdout.trim().split(' ').slice(0, 2).join(' ');
  }

  /** A program that goes on sending; its log tells what became of each within a second. */
  goOn(on: Pick<TestHost, 'in'>, uid: number, sending: Named): Child {
    return this.#goOn(on, uid, sending);
  }

  /** As `goOn`, of what must be answered, each and every one, by a busy machine too: `silence` is said of what is lost, not of what is late. */
  goOnPatiently(on: Pick<TestHost, 'in'>, uid: number, sending: Named): Child {
    return this.#goOn(on, uid, { ...sending, patienceSeconds: PATIENT_SECONDS });
  }

  #goOn(on: Pick<TestHost, 'in'>, uid: number, { name, ...sending }: Named & Patient): Child {
    return new Child({
      command: this.#command(on, uid, { ...sending, count: ON_AND_ON }),
      logFile: join(this.#folder, `${name}.log`),
    });
  }

  /** A program in Python of a user, as it is written here. */
  run(
    on: Pick<TestHost, 'in'>,
    uid: number,
    { name, program }: { readonly name: string; readonly program: string },
  ): Child {
    return new Child({
      command: on.in(...asUser(uid, PYTHON, '-uc', program)),
      logFile: join(this.#folder, `${name}.log`),
    });
  }

  #command(on: Pick<TestHost, 'in'>, uid: number, sending: Patient): string[] {
    const { to, port, connects, count, size, sourcePort, patienceSeconds = 1 } = sending;
    const numbers = [
      port,
      connects === true ? 1 : 0,
      count ?? 1,
      size ?? 8,
      sourcePort ?? 0,
      patienceSeconds,
    ].map(String);
    return on.in(...asUser(uid, PYTHON, this.script, 'send', to, ...numbers));
  }
}
