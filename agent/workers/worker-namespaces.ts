import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { ListeningSocket, SocketSource } from '../handover/listening-sockets.ts';
import type { NamespaceListener } from '../namespaces/namespace-place.ts';
import type { DeclaredNamespace } from '../namespaces/namespace-source.ts';
import type { Namespaces } from '../namespaces/namespaces.ts';
import { closeDescriptor } from '../native/dial.ts';
import { isListening } from '../native/listening-socket.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import type { ToWorker } from './worker-messages.ts';

/** A worker that runs. */
export interface NamespaceTaker {
  tell(message: ToWorker): void;
  /** Tells the worker something with descriptors, behind everything that it was told with others before. */
  give(message: ToWorker, parcel: { readonly key: string; readonly descriptors: readonly number[] }): void;
  /** Whether the worker has not got it yet, and will not. */
  takeBack(key: string): boolean;
}

export interface WorkerNamespacesOptions {
  readonly namespaces: Pick<Namespaces, 'findDeclared' | 'routes' | 'watch'>;
  readonly sockets: Pick<SocketSource, 'tcp'>;
  /** At which the agent listens within. */
  readonly port: number;
  readonly mark: number;
  readonly clock: Pick<Clock, 'schedule'>;
  readonly log: Log;
}

/** What all workers need to serve a namespace. */
interface Served {
  readonly namespace: NetworkNamespace;
  readonly declared: DeclaredNamespace;
  /** None once another process takes connections in the agent's place. */
  readonly listeners: ListeningSocket[];
  /** Why workers could not serve it, as far as that was told already. */
  readonly failures: Set<string>;
  /** To whom it is given again in a moment. */
  readonly awaiting: Set<NamespaceTaker>;
}

/** What a worker could not serve is given to it again after this time, in milliseconds. */
const AGAIN_MS = 2000;
/** So many failures of one namespace are told; a worker says what it likes. */
const MAX_FAILURES = 16;

/** Both families on one socket. */
const EVERYWHERE = '::';

/**
 * The namespaces that all workers serve. Each has one listening socket, of which all workers take connections; the agent holds it, so that none is lost while a worker is started again. It is not one for each
 * worker, as on the host: a port that several sockets share can be joined by whoever has the agent's user within, and root is that.
 */
export class WorkerNamespaces {
  readonly #options: WorkerNamespacesOptions;
  readonly #served = new Map<string, Served>();
  readonly #workers = new Set<NamespaceTaker>();
  readonly #unwatch: () => void;
  #isDrained = false;

  constructor(options: WorkerNamespacesOptions) {
    this.#options = options;
    this.#unwatch = options.namespaces.watch(() => {
      const message = this.#routes();
      for (const worker of this.#workers) worker.tell(message);
    });
  }

  /** Has a worker that was started serve all, from now on. */
  join(worker: NamespaceTaker): void {
    this.#workers.add(worker);
    for (const served of this.#served.values()) give(worker, served);
    worker.tell(this.#routes());
  }

  /** It has ended. */
  leave(worker: NamespaceTaker): void {
    this.#workers.delete(worker);
  }

  /** Has all workers take what is redirected within, once they take anything. Throws `unavailable`, reason `listen_failed` or `network_namespace`. */
  listenIn(namespace: NetworkNamespace): NamespaceListener {
    const { namespaces, sockets, port, mark } = this.#options;
    const declared = namespaces.findDeclared(namespace);
    if (declared === undefined) throw new RangeError(`No namespace ${namespace.name} was declared`);
    const listeners = [...sockets.tcp({ address: EVERYWHERE, port }, { namespace, mark })];
    const served = {
      namespace,
      declared,
      listeners,
      failures: new Set<string>(),
      awaiting: new Set<NamespaceTaker>(),
    };
    const key = keyOf(namespace);
    this.#served.set(key, served);
    for (const worker of this.#workers) give(worker, served);
    return {
      get isBroken() {
        return listeners.some(({ fd }) => !isListening(fd));
      },
      stop: () => {
        this.#served.delete(key);
        for (const worker of this.#workers)
          if (!worker.takeBack(key)) worker.tell({ kind: 'namespace_gone', cookie: key });
        closeListeners(served);
      },
    };
  }

  /** A worker cannot serve one that it was given: there the pod is closed, and in no other. It is given it again, until it can. */
  failed(
    worker: NamespaceTaker,
    {
      worker: number,
      cookie,
      why,
    }: { readonly worker: number; readonly cookie: string; readonly why: string },
  ): void {
    const { clock, log } = this.#options;
    const served = this.#served.get(cookie);
    // What it says meanwhile is of what it was given before.
    if (served === undefined || this.#isDrained || served.awaiting.has(worker)) return;
    const failure = `${number} ${why}`;
    if (!served.failures.has(failure) && served.failures.size < MAX_FAILURES) {
      const { name } = served.declared;
      log.error('worker_namespace_failed', { worker: number, name, why, retry_ms: AGAIN_MS });
      served.failures.add(failure);
    }
    served.awaiting.add(worker);
    clock.schedule(AGAIN_MS, () => {
      served.awaiting.delete(worker);
      const isWanted = this.#workers.has(worker) && this.#served.get(cookie) === served && !this.#isDrained;
      if (isWanted) give(worker, served);
    });
  }

  /** Another process takes connections in the agent's place: no worker gets a namespace any more, and what those have open goes on. */
  drain(): void {
    this.#isDrained = true;
    for (const [key, served] of this.#served) {
      for (const worker of this.#workers) worker.takeBack(key);
      closeListeners(served);
    }
  }

  stop(): void {
    this.#unwatch();
  }

  #routes(): ToWorker {
    const routed = this.#options.namespaces.routes().map(([address, namespace]) => {
      return [address, keyOf(namespace)] as const;
    });
    return { kind: 'routes', routed };
  }
}

function give(worker: NamespaceTaker, { namespace, declared, listeners }: Served): void {
  const key = keyOf(namespace);
  const descriptors = [namespace.fd, ...listeners.map(({ fd }) => fd)];
  worker.give({ kind: 'namespace', cookie: key, declared }, { key, descriptors });
}

function closeListeners({ listeners }: Served): void {
  for (const socket of listeners.splice(0)) {
    closeDescriptor(socket.fd);
    socket.closed();
  }
}

/** As it stands in messages. */
export function keyOf({ cookie }: Pick<NetworkNamespace, 'cookie'>): string {
  return String(cookie);
}
