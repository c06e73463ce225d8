import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BrokenInvariant, requireThat } from './target.ts';

const CHILD = join(import.meta.dirname, 'policy-engine-child.ts');
/** Nothing bounds what a signed policy takes, so a module that does not end is no finding. Below the time that an input may take. */
const MAX_MS = 500;
/** Of an engine's memory there are 64 MiB, and a few instances wait for the garbage collector. */
const MAX_RESIDENT_BYTES = 1024 ** 3;

/** A process that loads compiled policies; a new one after each that did not end. It dies with this one. */
export class PolicyEngineProcess {
  #child: Bun.Subprocess | undefined;
  #answer: ((way: string) => void) | undefined;

  /** The way that a module went. Throws `BrokenInvariant` when it killed the process, made it too large, or led to another exception than a refusal. */
  async wayOf(wasm: Uint8Array): Promise<string> {
    const child = (this.#child ??= this.#start());
    const { promise, resolve } = Promise.withResolvers<string>();
    this.#answer = resolve;
    child.send(wasm);
    const timer = setTimeout(() => resolve('endless'), MAX_MS);
    const died = child.exited.then(() => `died by ${child.signalCode ?? child.exitCode}`);
    const way = await Promise.race([promise, died]);
    clearTimeout(timer);
    if (way === 'endless') this.#kill(child);
    else if (way.startsWith('died') || way.startsWith('BROKEN')) throw new BrokenInvariant(way);
    else requireThat(residentBytesOf(child.pid) < MAX_RESIDENT_BYTES, 'an engine that takes too much memory');
    return way;
  }

  #start(): Bun.Subprocess {
    const child = Bun.spawn(['setpriv', '--pdeathsig', 'KILL', process.execPath, CHILD], {
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: 'ignore',
      serialization: 'advanced',
      ipc: (way: string) => this.#answer?.(way),
    });
    // It must not keep this process from its end.
    child.unref();
    return child;
  }

  #kill(child: Bun.Subprocess): void {
    child.kill('SIGKILL');
    this.#child = undefined;
  }
}

function residentBytesOf(pid: number): number {
  const pages = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1];
  return Number(pages) * 4096;
}
