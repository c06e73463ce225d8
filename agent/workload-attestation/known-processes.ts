import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import { readProcessFacts, type ProcessFacts } from './process-facts.ts';
import type { WorkloadAttestor } from './workload-attestor.ts';

/** How long what was read of a process counts: accounts and the file at a program's path may change, of which no stamp tells. */
const MAX_AGE_MS = 1_000;
/** Processes that are remembered: those looked at within a second. */
const MAX_KNOWN = 8_192;

/** A process as it was read. */
export interface KnownProcess {
  readonly facts: ProcessFacts;
  /** Undefined until they were read. */
  readonly selectors: ReadonlySet<Selector> | undefined;
  /** How many looks had begun when all of it had been read. */
  readonly looks: number;
}

interface Entry {
  readonly facts: ProcessFacts;
  /** The registration that was in force when it was read: what is read of a process depends on what is asked for. */
  readonly registration: unknown;
  selectors: ReadonlySet<Selector> | undefined;
  looks: number;
  readAtMs: number;
  attesting: Promise<boolean> | undefined;
}

/** What knowledge of processes stands on. */
export interface KnownProcessesOptions {
  readonly attestors: readonly WorkloadAttestor[];
  /** Another object with each change of the registration. */
  readonly registration: () => unknown;
  readonly clock: Clock;
}

/**
 * What is known of processes by their stamp, for a second. A stamp is seen in a look; what belongs to it is read after that look, and counts from the
 * next one on that shows the same stamp: only then is it certain that what was read is the process of that stamp, and not another that
 * came in its place in between. So whoever uses this looks, reads what is not known, and looks again.
 */
export class KnownProcesses {
  readonly #options: KnownProcessesOptions;
  readonly #entries = new Map<string, Entry>();
  #looks = 0;

  constructor(options: KnownProcessesOptions) {
    this.#options = options;
  }

  /** To be called when a look begins: its number. What is known of a stamp that it shows counts if `looks` is smaller. */
  beginLook(): number {
    return ++this.#looks;
  }

  /** What is known of the process that has this stamp, read now if need be; undefined when it has ended. */
  findOrRead(pid: number, stamp: string): KnownProcess | undefined {
    const entry = this.#entries.get(stamp);
    if (entry !== undefined && this.#isValid(entry)) return entry;
    const facts = readProcessFacts(pid);
    this.#entries.delete(stamp);
    return facts === undefined ? undefined : this.#remember(stamp, facts);
  }

  /**
   * Reads the selectors of a known process. When it has ended or changed, it is not known any more. Whoever asks meanwhile gets the same answer. Rejects
   * like `WorkloadAttestor.attest`, but for a process that is gone.
   */
  async readSelectors(stamp: string): Promise<void> {
    const entry = this.#entries.get(stamp);
    if (entry === undefined) return;
    entry.attesting ??= this.#attest(entry).finally(() => (entry.attesting = undefined));
    const isSame = await entry.attesting;
    if (!isSame && this.#entries.get(stamp) === entry) this.#entries.delete(stamp);
  }

  async #attest(entry: Entry): Promise<boolean> {
    const selectors = await readSelectors(this.#options.attestors, entry.facts);
    if (selectors === undefined) return false;
    entry.selectors = selectors;
    entry.looks = this.#looks;
    entry.readAtMs = this.#options.clock.monotonicMs();
    return true;
  }

  /** Hashing a program may take longer than what is known lasts: what is being read is of use once it is there. */
  #isValid({ readAtMs, registration, attesting }: Entry): boolean {
    const isRecent = attesting !== undefined || this.#options.clock.monotonicMs() - readAtMs <= MAX_AGE_MS;
    return isRecent && registration === this.#options.registration();
  }

  #remember(stamp: string, facts: ProcessFacts): Entry {
    // The oldest stand first.
    for (const [old, entry] of this.#entries) {
      if (this.#isValid(entry) && this.#entries.size < MAX_KNOWN) break;
      this.#entries.delete(old);
    }
    const entry: Entry = {
      facts,
      registration: this.#options.registration(),
      selectors: undefined,
      looks: this.#looks,
      readAtMs: this.#options.clock.monotonicMs(),
      attesting: undefined,
    };
    this.#entries.set(stamp, entry);
    return entry;
  }
}

/** What all attestors say of a process; undefined when it has ended, or is another one than its facts say. */
export async function readSelectors(
  attestors: readonly WorkloadAttestor[],
  facts: ProcessFacts,
): Promise<ReadonlySet<Selector> | undefined> {
  try {
    const all = await Promise.all(attestors.map(async (attestor) => await attestor.attest(facts)));
    return new Set(all.flat());
  } catch (error) {
    if (toPicketError(error).reason === 'process_gone') return undefined;
    throw error;
  }
}
