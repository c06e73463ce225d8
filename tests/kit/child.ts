import { closeSync, openSync, readFileSync } from 'node:fs';
import { waitUntil } from './wait.ts';

export interface ChildOptions {
  readonly command: readonly string[];
  /** Everything that the program prints goes to this file. */
  readonly logFile: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Whether `type` reaches it; otherwise it has nothing to read. */
  readonly isTypedTo?: boolean;
}

export interface RunResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that a test started: it is ended by its pid, never by its name. */
export class Child {
  readonly logFile: string;
  readonly #process: Bun.Subprocess;

  constructor(options: ChildOptions) {
    this.logFile = options.logFile;
    const log = openSync(options.logFile, 'a');
    this.#process = Bun.spawn([...options.command], {
      stdin: options.isTypedTo === true ? 'pipe' : 'ignore',
      stdout: log,
      stderr: log,
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    closeSync(log);
  }

  get pid(): number {
    return this.#process.pid;
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Gives the program something to read. */
  type(text: string): void {
    const { stdin } = this.#process;
    if (stdin === undefined || typeof stdin === 'number') throw new TypeError('Nothing reaches this program');
    void stdin.write(text);
    void stdin.flush();
  }

  /** It has nothing more to read. */
  endTyping(): void {
    const { stdin } = this.#process;
    if (stdin !== undefined && typeof stdin !== 'number') void stdin.end();
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** Waits until `isReady`; a program that ends before fails at once with what it printed. */
  async ready(
    description: string,
    isReady: () => boolean | Promise<boolean>,
    withinMs = 60_000,
  ): Promise<void> {
    const ended = (): boolean => !this.isRunning;
    await waitUntil(description, async () => ended() || (await isReady()), withinMs).catch(
      (cause: unknown) => {
        throw new Error(
          `${description}: not ready within ${withinMs} ms. It printed:\n${this.log().slice(-4000)}`,
          { cause },
        );
      },
    );
    if (ended())
      throw new Error(`${description}: the program ended early. It printed:\n${this.log().slice(-4000)}`);
  }

  /** Ends the program with `signal`, with SIGKILL after `graceMs`, and waits for its end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', graceMs = 10_000): Promise<number | null> {
    if (this.isRunning) this.#process.kill(signal);
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), graceMs);
    await this.#process.exited;
    clearTimeout(timer);
    return this.#process.exitCode;
  }
}

/** Runs a program to its end, killed after `withinMs`. */
export async function run(
  command: readonly string[],
  options: {
    readonly env?: Readonly<Record<string, string>>;
    readonly stdin?: string;
    readonly withinMs?: number;
    readonly cwd?: string;
  } = {},
): Promise<RunResult> {
  const child = Bun.spawn([...command], {
    stdin: options.stdin === undefined ? 'ignore' : Buffer.from(options.stdin),
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...process.env, ...options.env },
    timeout: options.withinMs ?? 30_000,
    killSignal: 'SIGKILL',
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

/** Runs a program that must succeed; its standard output. */
export async function runOk(
  command: readonly string[],
  options: Parameters<typeof run>[1] = {},
): Promise<string> {
  const result = await run(command, options);
  if (result.exitCode !== 0)
    throw new Error(`${command.join(' ')} ended with ${result.exitCode}:\n${result.stderr}${result.stdout}`);
  return result.stdout;
}
