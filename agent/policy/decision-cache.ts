import type { DecisionUser } from '../../shared/policy/circumstances.ts';
import type { DecisionHttpRequest, DecisionRequest, Verdict } from '../../shared/policy/decision.ts';
import type { InputPath } from '../../shared/policy/policy-bundle.ts';
import type { PolicyInput } from '../../shared/policy/policy-engine.ts';
import { CLOCK, mayRead } from './policy-reads.ts';

/** What differs from one request to the next, whoever asks for whatever. */
const NEVER_THE_SAME: readonly InputPath[] = [
  ['context', 'decision_id'],
  ['attributes', 'request', 'http', 'id'],
  ...CLOCK,
];

const MAX_VERDICTS = 4096;
const MAX_KEY_CHARACTERS = 1024;

/** What is asked: the called side's rule, the calling side's within the mesh, or out of it, where a result means more. */
export type DecisionKind = 'inbound' | 'outbound' | 'leaving';

interface Recent {
  readonly caller: DecisionRequest['caller'];
  readonly target: DecisionRequest['target'];
  readonly kind: DecisionKind;
  readonly user: DecisionUser;
  readonly verdict: Verdict;
}

/** Between which ends a request was asked about, by whom it was sent, and on which side. */
interface Circumstances {
  readonly kind: DecisionKind;
  readonly user: DecisionUser;
}

/**
 * Verdicts of one policy, by exactly what that policy reads of its input. It lives and dies with the policy. There is none for a policy that reads
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
    const isTold = reads !== undefined && !mayRead(reads, NEVER_THE_SAME);
    return isTold ? new DecisionCache(reads) : undefined;
  }

  /** The verdict on the very same request between the very same ends, which took no time; a user whose token ended since is another one. */
  findRecent({ http, caller, target }: DecisionRequest, { kind, user }: Circumstances): Verdict | undefined {
    const recent = http === null ? undefined : this.#recent.get(http);
    const isSame = recent?.caller === caller && recent.target === target && recent.kind === kind;
    return isSame && recent.user === user ? recent.verdict : undefined;
  }

  /** The key of what the policy reads of an input; undefined where that is too long to be kept. */
  keyOf(input: PolicyInput, kind: DecisionKind): string | undefined {
    const key = JSON.stringify([kind, ...this.#reads.map((path) => valueAt(input, path) ?? ABSENT)]);
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
    answer: Circumstances & { readonly verdict: Verdict },
  ): void {
    const { http, caller, target } = request;
    const verdict = { ...answer.verdict, latencyUs: 0 };
    if (http !== null) this.#recent.set(http, { caller, target, ...answer, verdict });
    if (key === undefined) return;
    this.#verdicts.set(key, answer.verdict);
    const [oldest] = this.#verdicts.keys();
    if (this.#verdicts.size > MAX_VERDICTS && oldest !== undefined) this.#verdicts.delete(oldest);
  }
}

/** Unlike every value that stands in an input: those are JSON, and an object there has names. */
const ABSENT = { '': true };

function valueAt(input: PolicyInput, path: InputPath): unknown {
  let value: unknown = input;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  return value;
}
