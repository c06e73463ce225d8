import { join } from 'node:path';
import type { TestHost } from '../../kit/netns.ts';
import { startPostgres, type TestPostgres } from '../../kit/postgres.ts';
import type { Moment, Order } from './programs/database-gate.ts';

const GATE_PORT = 15_432;

/** Of the process that is killed. */
export interface Death {
  readonly hasCome: boolean;
}

type Relay = Bun.Subprocess<'pipe', 'pipe', 'inherit'>;

/** A PostgreSQL on a test's host whose client is killed at a chosen step: see programs/database-gate.ts. */
export class DatabaseGate {
  readonly url: string;
  readonly #postgres: TestPostgres;
  readonly #relay: Relay;
  readonly #waiting = new Map<string, () => void>();

  private constructor(postgres: TestPostgres, relay: Relay) {
    this.#postgres = postgres;
    this.#relay = relay;
    const url = new URL(postgres.url);
    url.port = String(GATE_PORT);
    this.url = url.href;
    void this.#listen();
  }

  static async open(host: TestHost): Promise<DatabaseGate> {
    const postgres = await startPostgres(host);
    const program = join(import.meta.dirname, 'programs/database-gate.ts');
    const { port } = new URL(postgres.url);
    const relay = Bun.spawn(host.in(process.execPath, program, String(GATE_PORT), port), {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'inherit',
    });
    const gate = new DatabaseGate(postgres, relay);
    await gate.#heard('listening');
    return gate;
  }

  /**
   * Kills the process at a moment of its work from now on, unless `isDone` holds before: the database has the statement, its answer is lost.
   * Begins with `work`, and waits for the one or the other. Whether it was killed.
   */
  async killAt(
    moment: Moment,
    pid: number,
    { work, isDone }: { readonly work: () => void; readonly isDone: () => Promise<boolean> },
  ): Promise<boolean> {
    const death = await this.arm(moment, pid);
    work();
    while (!death.hasCome && !(await isDone())) await Bun.sleep(20);
    await this.#tell({}, 'disarmed');
    return death.hasCome;
  }

  /** As `killAt`, for what comes by itself: returns at once what tells whether it has come. */
  async arm(moment: Moment, pid: number): Promise<Death> {
    const death = { hasCome: false };
    void this.#heard('killed').then(() => void (death.hasCome = true));
    await this.#tell({ moment, pid }, 'armed');
    return death;
  }

  async close(): Promise<void> {
    this.#relay.kill('SIGKILL');
    await this.#relay.exited;
    await this.#postgres.stop();
  }

  async #tell(order: Order, answer: string): Promise<void> {
    const heard = this.#heard(answer);
    await this.#relay.stdin.write(`${JSON.stringify(order)}\n`);
    await this.#relay.stdin.flush();
    await heard;
  }

  async #heard(word: string): Promise<void> {
    await new Promise<void>((resolve) => this.#waiting.set(word, resolve));
  }

  async #listen(): Promise<void> {
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of this.#relay.stdout) {
      const words = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = words.pop() ?? '';
      for (const word of words) this.#waiting.get(word)?.();
    }
  }
}
