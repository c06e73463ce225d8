import { readFileSync } from 'node:fs';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';

/** Hears of every change of the table of capture, from anybody; `watchTable` of agent/native, bound to the table. What it gives ends it. */
export type OpenRulesWatch = (listeners: {
  readonly onChange: (author: { readonly pid: number; readonly program: string }) => void;
  /** It hears no more, and may have missed some. */
  readonly onEnd: () => void;
}) => Promise<() => void>;

export interface RulesWatchOptions {
  readonly open: OpenRulesWatch;
  /** Whether a process is one that we run to change the rules ourselves. */
  readonly isOwn: (pid: number) => boolean;
  /** The rules changed, or may have. `author` is absent where it was ourselves, or nobody heard who it was. */
  readonly onChange: (author?: string) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export interface RulesWatch extends Running {
  /** Whether changes are heard of at once; otherwise only the next look finds them. */
  readonly isHearing: boolean;
}

const OPEN_AGAIN_MS = 100;
const OPEN_AGAIN_AFTER_FAILURE_MS = 10_000;

/** Hears of changes of the rules, and begins anew where the kernel told more than could be read. */
export async function startRulesWatch(options: RulesWatchOptions): Promise<RulesWatch> {
  const watch = new Watch(options);
  await watch.open();
  return watch;
}

class Watch implements RulesWatch {
  readonly #options: RulesWatchOptions;
  #end: (() => void) | undefined;
  #cancelOpening: () => void = () => undefined;
  #isStopped = false;

  constructor(options: RulesWatchOptions) {
    this.#options = options;
  }

  get isHearing(): boolean {
    return this.#end !== undefined;
  }

  stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelOpening();
    this.#end?.();
    return Promise.resolve();
  }

  async open(): Promise<void> {
    const { open, isOwn, onChange, log } = this.#options;
    try {
      const end = await open({
        onChange: (author) => onChange(isOwn(author.pid) ? undefined : describeAuthor(author)),
        onEnd: () => this.#openLater(OPEN_AGAIN_MS),
      });
      if (this.#isStopped) return end();
      this.#end = end;
    } catch (error) {
      log.warn('capture_watch_failed', { error });
      this.#openLater(OPEN_AGAIN_AFTER_FAILURE_MS);
    }
  }

  /** What happened meanwhile nobody has heard. */
  #openLater(delayMs: number): void {
    this.#end = undefined;
    if (this.#isStopped) return;
    this.#options.onChange();
    this.#cancelOpening = this.#options.clock.schedule(delayMs, () => void this.#openAgain());
  }

  async #openAgain(): Promise<void> {
    await this.open();
    if (this.isHearing) this.#options.onChange();
  }
}

/** A program that changes the rules is short-lived, such as `nft`: who started it says more. It is still there while the kernel finishes its transaction, mostly. */
function describeAuthor({ pid, program }: { readonly pid: number; readonly program: string }): string {
  const parent = /^PPid:\t(\d+)$/m.exec(readProcess(`${pid}/status`))?.[1] ?? '0';
  const parentName = readProcess(`${parent}/comm`).trim();
  const own = `${program} (pid ${pid})`;
  return parentName === '' ? own : `${own}, started by ${parentName} (pid ${parent})`;
}

function readProcess(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'utf8');
  } catch {
    return '';
  }
}
