import type { DecisionHttpRequest, DecisionRequest, Verdict } from '../../shared/policy/decision.ts';
import type { InputPath } from '../../shared/policy/policy-bundle.ts';
import type { PolicyInput } from '../../shared/policy/policy-engine.ts';

/** What differs from one request to the next, or from one moment to the next, whoever asks for whatever. */
const NEVER_THE_SAME: readonly InputPath[] = [
  ['context', 'decision_id'],
  ['context', 'time'],
  ['context', 'time_ns'],
  ['context', 'weekday'],
  ['context', 'hour'],
  ['context', 'minute'],
  ['attributes', 'request', 'time'],
  ['attributes', 'request', 'http', 'id'],
];

const MAX_VERDICTS = 4096;
const MAX_KEY_CHARACTERS = 1024;

type Direction = 'inbound' | 'outbound';

interface Recent {
  readonly caller: DecisionRequest['caller'];
  readonly target: DecisionRequest['target'];
  readonly direction: Direction;
  readonly verdict: Verdict;
}

/**
 * Verdicts of one policy, by exactly what that policy reads of its input (design: decision 13). It lives and dies with the policy. There is none for a policy that reads
 * the clock, the time of the request or its id, nor for one of which it is not known what it reads.
 */
export class DecisionCache {
  readonly #reads: readonly InputPath[];
  /** In the order of their last use. */
  readonly #verdicts = new Map<string, Verdict>();
  /** A client that asks the same again on one connection: not even the input is built. */
  readonly #recent = new WeakMap<DecisionHttpRequest, Recent>();

  private constructor(reads: readonly InputPath[]) {
    this.#reads = reads;
  }

  /** Undefined where the policy's verdicts must not be kept. */
  static for(reads: readonly InputPath[] | undefined): DecisionCache | undefined {
    const isTold = reads?.every((path) => !NEVER_THE_SAME.some((other) => overlaps(path, other))) === true;
    return isTold ? new DecisionCache(reads) : undefined;
  }

  /** The verdict on the very same request between the very same ends. */
  findRecent({ http, caller, target }: DecisionRequest, direction: Direction): Verdict | undefined {
    const recent = http === null ? undefined : this.#recent.get(http);
    const isSame = recent?.caller === caller && recent.target === target && recent.direction === direction;
    return isSame ? recent.verdict : undefined;
  }

  /** The key of what the policy reads of an input; undefined where that is too long to be kept. */
  keyOf(input: PolicyInput, direction: Direction): string | undefined {
    const key = JSON.stringify([direction, ...this.#reads.map((path) => valueAt(input, path) ?? ABSENT)]);
    return key.length > MAX_KEY_CHARACTERS ? undefined : key;
  }

  find(key: string): Verdict | undefined {
    const verdict = this.#verdicts.get(key);
    if (verdict === undefined) return undefined;
    this.#verdicts.delete(key);
    this.#verdicts.set(key, verdict);
    return verdict;
  }

  /** Beyond its limit the verdict that was not used for the longest time is forgotten. */
  keep(
    key: string | undefined,
    request: DecisionRequest,
    answer: { readonly direction: Direction; readonly verdict: Verdict },
  ): void {
    const { http, caller, target } = request;
    if (http !== null) this.#recent.set(http, { caller, target, ...answer });
    if (key === undefined) return;
    this.#verdicts.set(key, answer.verdict);
    const [oldest] = this.#verdicts.keys();
    if (this.#verdicts.size > MAX_VERDICTS && oldest !== undefined) this.#verdicts.delete(oldest);
  }
}

/** Unlike every value that stands in an input: those are JSON, and an object there has names. */
const ABSENT = { '': true };

/** Whether one path leads to the other, or to something in it. */
function overlaps(one: InputPath, other: InputPath): boolean {
  return one.slice(0, other.length).every((name, depth) => name === other[depth]);
}

function valueAt(input: PolicyInput, path: InputPath): unknown {
  let value: unknown = input;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  return value;
}
