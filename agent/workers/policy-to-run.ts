import type { PolicyEngine, PolicyEngineLoader } from '../../shared/policy/policy-engine.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { WatchedValue, type Watched } from '../../shared/runtime/watched-value.ts';
import { loadPolicy, type LoadedPolicy } from '../policy/loaded-policy.ts';
import type { PolicyToRun } from './worker-messages.ts';

/** A loader that remembers what each engine was loaded from, so that it can be loaded once more, in a worker. */
export class RememberingLoader implements PolicyEngineLoader {
  readonly #loader: PolicyEngineLoader;
  readonly #artifacts = new WeakMap<PolicyEngine, Uint8Array>();

  constructor(loader: PolicyEngineLoader) {
    this.#loader = loader;
  }

  async load(artifact: Uint8Array): Promise<PolicyEngine> {
    const engine = await this.#loader.load(artifact);
    this.#artifacts.set(engine, artifact);
    return engine;
  }

  /** Throws `TypeError` for an engine of another loader. */
  artifactOf({ engine }: LoadedPolicy): Uint8Array {
    const artifact = this.#artifacts.get(engine);
    if (artifact === undefined) throw new TypeError('This policy was loaded by another loader');
    return artifact;
  }
}

/** The policy of a worker: the agent's, which verified it. */
export class ToldPolicy {
  readonly #policy = new WatchedValue<LoadedPolicy | undefined>(undefined);
  readonly #loader: PolicyEngineLoader;
  readonly #clock: Clock;
  #last: Promise<void> = Promise.resolve();

  constructor(options: { readonly loader: PolicyEngineLoader; readonly clock: Clock }) {
    this.#loader = options.loader;
    this.#clock = options.clock;
  }

  get policy(): Watched<LoadedPolicy | undefined> {
    return this.#policy;
  }

  /** Puts it in force, behind those that were told before; null: none. Rejects if it cannot be loaded. */
  async take(told: PolicyToRun | null): Promise<void> {
    this.#last = this.#putInForce(told, this.#last);
    await this.#last;
  }

  async #putInForce(told: PolicyToRun | null, before: Promise<void>): Promise<void> {
    await before;
    this.#policy.set(told === null ? undefined : await this.#load(told));
  }

  async #load({ statement, artifact }: PolicyToRun): Promise<LoadedPolicy> {
    const policy = { statement, artifact: new Uint8Array(Buffer.from(artifact, 'base64')) };
    return await loadPolicy(this.#loader, policy, this.#clock.nowMs());
  }
}
