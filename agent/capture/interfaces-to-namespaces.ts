import type { Clock } from '../../shared/runtime/clock.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';

export interface InterfacesToNamespacesOptions {
  /** `findNamespaceId` of `namespace-routes.ts`. */
  readonly findId: (namespace: NetworkNamespace) => number | undefined;
  /** `readInterfacesByNamespace` of the same. */
  readonly readAll: () => ReadonlyMap<number, readonly number[]>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
}

/** For so long is believed which interfaces lead where. */
const KNOWN_MS = 250;

/** Which of the host's interfaces lead to which namespace alone. However many namespaces ask, all interfaces are read four times a second at most, but for once more with each new namespace. */
export class InterfacesToNamespaces {
  readonly #options: InterfacesToNamespacesOptions;
  /** A namespace that is held open keeps its number. */
  readonly #ids = new WeakMap<NetworkNamespace, number>();
  #known: { readonly byId: ReadonlyMap<number, readonly number[]>; readonly untilMs: number } | undefined;

  constructor(options: InterfacesToNamespacesOptions) {
    this.#options = options;
  }

  /** Throws as `readInterfacesByNamespace`. */
  find(namespace: NetworkNamespace): readonly number[] {
    const id = this.#ids.get(namespace) ?? this.#learnId(namespace);
    return id === undefined ? [] : (this.#now().get(id) ?? []);
  }

  /** One that has no number gets it when interfaces are told. */
  #learnId(namespace: NetworkNamespace): number | undefined {
    const { findId } = this.#options;
    let id = findId(namespace);
    if (id === undefined) {
      this.#now();
      id = findId(namespace);
    }
    if (id === undefined) return undefined;
    this.#ids.set(namespace, id);
    // Then it may have been the number of another one.
    this.#known = undefined;
    return id;
  }

  #now(): ReadonlyMap<number, readonly number[]> {
    const { readAll, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#known === undefined || nowMs >= this.#known.untilMs)
      this.#known = { byId: readAll(), untilMs: nowMs + KNOWN_MS };
    return this.#known.byId;
  }
}
