import type { Clock } from '../../../shared/runtime/clock.ts';
import { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { CapturePorts } from '../../capture/capture.ts';
import { ListeningSockets, type SocketSource } from '../../handover/listening-sockets.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { FindCapturedWay } from './captured-way.ts';
import type { Forward } from './forward.ts';
import { steer, type CaptureHandler } from './steer.ts';
import { listenTcp, type AcceptedSocket, type TcpListener, type TcpStream } from '../streams/tcp-stream.ts';

export interface CaptureListenersOptions {
  readonly ports: CapturePorts;
  /** Where the sockets come from. */
  readonly sockets?: SocketSource;
  /** Of the agent's own sockets, and of what is answered within a namespace. */
  readonly mark: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is captured at a port, and whose. */
export interface CaptureWay extends InNamespace {
  readonly find: FindCapturedWay;
  readonly handle: CaptureHandler;
}

/** Both families on one socket. */
const EVERYWHERE = '::';

/** The ports to which a host's connections are steered, and the forwards that stand beside them. */
export class CaptureListeners {
  readonly #options: CaptureListenersOptions;
  readonly #sockets: SocketSource;
  readonly #refused: CrowdReport<'refused'>;
  readonly #listeners = new Set<TcpListener>();
  #isStopped = false;

  constructor(options: CaptureListenersOptions) {
    this.#options = options;
    this.#sockets = options.sockets ?? new ListeningSockets();
    this.#refused = new CrowdReport({ event: 'own_listener_refused', ...options });
  }

  /** Takes what is steered to a port. Throws `unavailable`, reason `listen_failed` or `network_namespace`. Once stopped it takes nothing, and opens nothing. */
  open(port: number, { find, handle, namespace }: CaptureWay): Pick<TcpListener, 'stop' | 'isBroken'> {
    // Told late, in a process that was replaced. It must go on all the same with what is open.
    if (this.#isStopped) return { isBroken: false, stop: () => undefined };
    const { mark } = this.#options;
    const steering = { ...this.#options, find, handle, refused: this.#refused };
    const onStream = (stream: TcpStream, socket: AcceptedSocket): void => steer(stream, socket, steering);
    // Within a namespace, where others may be root as well, our answers are told by their mark from those of whoever else listens there.
    const own = namespace === undefined ? {} : { namespace, mark };
    const listener = listenTcp({ address: EVERYWHERE, port, sockets: this.#sockets, ...own, onStream });
    this.#listeners.add(listener);
    return {
      get isBroken() {
        return listener.isBroken;
      },
      stop: () => {
        this.#listeners.delete(listener);
        listener.stop();
      },
    };
  }

  /** Takes what connects to a forward as if it had connected to where that leads. Throws `unavailable`, reason `listen_failed`. */
  openForward({ listen, to }: Forward, handle: CaptureHandler): void {
    const onStream = (stream: TcpStream, { remote, local }: AcceptedSocket): void =>
      void handle(stream, { client: remote, dialled: local, destination: to });
    this.#listeners.add(listenTcp({ ...listen, sockets: this.#sockets, onStream }));
  }

  /** Takes nothing more, for good: another process may listen on the same sockets by now. */
  stop(): void {
    this.#isStopped = true;
    for (const listener of this.#listeners) listener.stop();
    this.#listeners.clear();
  }
}
