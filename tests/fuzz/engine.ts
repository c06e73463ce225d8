import { PicketError } from '../../shared/errors/errors.ts';
import { mutate } from './mutate.ts';
import { SeededRandom } from './random.ts';
import { outcomeOfRefusal, type FuzzTarget } from './target.ts';

/** An input with which a parser breaks what it promises. */
export interface Finding {
  readonly kind: 'exception' | 'slow' | 'memory' | 'hang' | 'crash';
  readonly what: string;
  readonly input: Uint8Array;
  /** Which input of the run it was, from 0. */
  readonly iteration: number;
}

export interface FuzzLimits {
  /** An input ends the run as `slow` when it takes longer, three times in a row: a busy machine is not a finding. */
  readonly maxMs: number;
  /** By how much one input may make the process grow, in bytes. */
  readonly maxGrowthBytes: number;
}

export interface FuzzOptions {
  readonly seed: number;
  /** How many inputs, the seeds among them; whichever of this and `seconds` is reached first ends the run. */
  readonly iterations: number;
  readonly seconds: number;
  readonly limits?: Partial<FuzzLimits>;
  /** Called with each input before it is tried. */
  readonly onInput?: (input: Uint8Array, iteration: number) => void;
}

export interface FuzzReport {
  readonly iterations: number;
  readonly seconds: number;
  /** The ways that inputs went. */
  readonly outcomes: number;
  /** The run ends with the first. */
  readonly finding: Finding | undefined;
}

const MAX_CORPUS = 4096;
const MIB = 1024 * 1024;

/** What a parser may take for one input; nothing that is parsed here is larger than some MiB. */
export const DEFAULT_LIMITS: FuzzLimits = { maxMs: 1000, maxGrowthBytes: 256 * MIB };

/**
 * Tries a target with its seeds and then with mutations of whatever went a new way. Equal seed, target and iterations give equal inputs.
 */
export async function fuzz(target: FuzzTarget, options: FuzzOptions): Promise<FuzzReport> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const random = new SeededRandom(options.seed);
  const corpus: Uint8Array[] = [...target.seeds];
  const outcomes = new Set<string>();
  const startedMs = performance.now();
  const report = (iterations: number, finding?: Finding): FuzzReport => {
    const seconds = (performance.now() - startedMs) / 1000;
    return { iterations, seconds, outcomes: outcomes.size, finding };
  };
  let iteration = 0;
  for (; iteration < options.iterations; iteration++) {
    if (performance.now() - startedMs > options.seconds * 1000) break;
    const input = target.seeds[iteration] ?? grow(target, random, corpus);
    options.onInput?.(input, iteration);
    const result = await tryInput(target, input, limits);
    if (typeof result !== 'string') return report(iteration + 1, { ...result, input, iteration });
    if (outcomes.has(result)) continue;
    outcomes.add(result);
    if (iteration >= target.seeds.length && corpus.length < MAX_CORPUS) corpus.push(input);
  }
  return report(iteration);
}

type Fault = Pick<Finding, 'kind' | 'what'>;

/** Tries one input: the way that it went, or what is wrong with it. */
export async function tryInput(
  target: FuzzTarget,
  input: Uint8Array,
  limits: FuzzLimits = DEFAULT_LIMITS,
): Promise<string | Fault> {
  const rssBefore = process.memoryUsage.rss();
  let result = await timeInput(target, input);
  for (let again = 0; again < 2 && result.ms > limits.maxMs; again++) result = await timeInput(target, input);
  if (result.ms > limits.maxMs) return { kind: 'slow', what: `it takes ${Math.round(result.ms)} ms` };
  const growth = process.memoryUsage.rss() - rssBefore;
  if (growth > limits.maxGrowthBytes)
    return { kind: 'memory', what: `the process grew by ${Math.round(growth / MIB)} MiB` };
  return result.outcome;
}

async function timeInput(
  target: FuzzTarget,
  input: Uint8Array,
): Promise<{ readonly outcome: string | Fault; readonly ms: number }> {
  // A copy: neither may a parser change its input unseen, nor read beyond it in a larger buffer.
  const own = Buffer.from(Uint8Array.from(input).buffer);
  const startedMs = performance.now();
  const outcome = await settle(target, own);
  const ms = performance.now() - startedMs;
  const isUntouched = Buffer.compare(own, input) === 0;
  return { outcome: isUntouched ? outcome : { kind: 'exception', what: 'the parser changed its input' }, ms };
}

async function settle(target: FuzzTarget, input: Buffer): Promise<string | Fault> {
  try {
    return await target.check(input);
  } catch (error) {
    if (error instanceof PicketError) return outcomeOfRefusal(error);
    const what = error instanceof Error ? (error.stack ?? error.message) : Bun.inspect(error);
    return { kind: 'exception', what: what.slice(0, 2000) };
  }
}

function grow(target: FuzzTarget, random: SeededRandom, corpus: readonly Uint8Array[]): Uint8Array {
  const parent = corpus[pickParent(random, corpus.length)] ?? new Uint8Array();
  return mutate(parent, {
    random,
    corpus,
    dictionary: target.dictionary,
    maxBytes: target.maxBytes,
  });
}

/** Half of all from everything, the others from the newest: what went a new way is the door to the next. */
function pickParent(random: SeededRandom, count: number): number {
  const newest = random.pick([count, count, Math.ceil(count / 3), Math.min(count, 3)]);
  return count - 1 - random.below(newest);
}
