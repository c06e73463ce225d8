import { chmodSync, rmSync } from 'node:fs';
import { claimSocketPath } from '../../shared/runtime/unix-socket.ts';
import { closeDescriptor } from '../native/dial.ts';
import {
  findTcpListener,
  findUnixListener,
  openTcpListener,
  openUnixListener,
  sharePort,
  type ListenerOptions,
} from '../native/listening-socket.ts';
import type { SocketAddress } from '../native/socket-address.ts';

/** A socket that listens. Whoever takes it closes the descriptor, and says so. */
export interface ListeningSocket {
  readonly fd: number;
  /** 0 for a unix socket. */
  readonly port: number;
  /** The descriptor was closed. The file of a unix socket goes, unless the socket was handed on to another process. */
  closed(): void;
}

/** Of the sockets that share an address. */
const MAX_SHARED = 64;

/** Where the parts of the agent get the sockets that they listen on. */
export interface SocketSource {
  /**
   * Listens on one address, `::` for both families; port 0 takes a free one. Several sockets are returned where an earlier process had several there, each with connections of its own.
   * Throws `unavailable`, reason `listen_failed`.
   */
  tcp(at: SocketAddress, options?: Omit<ListenerOptions, 'sharesPort'>): readonly ListeningSocket[];
  /** Listens at a path. Throws as `claimSocketPath`. */
  unix(path: string, mode: number): Promise<ListeningSocket>;
}

/**
 * The listening sockets of this process, by the address that each is for. Those that an earlier process handed on are used before any is opened: both processes hold the same
 * socket then, with one queue of connections, so that none is refused when the first one closes its descriptor.
 */
export class ListeningSockets implements SocketSource {
  readonly #open = new Map<string, number>();
  readonly #inherited = new Map<string, number>();
  #isHandedOn = false;

  /** Takes what an earlier process handed on, before anything of it is opened: descriptors by the names of its `list`. */
  inherit(sockets: ReadonlyMap<string, number>): void {
    for (const [name, fd] of sockets) this.#inherited.set(name, fd);
  }

  tcp(at: SocketAddress, options: Omit<ListenerOptions, 'sharesPort'> = {}): readonly ListeningSocket[] {
    const { namespace } = options;
    const name = namespace === undefined ? tcpName(at) : `${tcpName(at)} in ${namespace.cookie}`;
    const shared = namespace === undefined ? this.countInherited(at) : 0;
    if (shared > 0) return Array.from({ length: shared }, (_, index) => this.sharedTcp(at, index));
    return [this.#tcp(name, at, options)];
  }

  /** As `tcp`, of several sockets that share an address the one of that number. */
  sharedTcp(at: SocketAddress, index: number): ListeningSocket {
    const alone = index === 0 ? this.#takeInherited(tcpName(at), (each) => isTcp(each, at)) : undefined;
    const name = sharedName(at, index);
    if (alone === undefined) return this.#tcp(name, at, { sharesPort: true });
    sharePort(alone);
    return this.#hold(name, { fd: alone, port: at.port, onClosed: () => undefined });
  }

  /** How many sockets an earlier process had at an address, of those that were not taken yet. */
  countInherited(at: SocketAddress): number {
    const shared = Array.from({ length: MAX_SHARED }, (_, index) => sharedName(at, index));
    const last = shared.findLastIndex((name) => this.#inherited.has(name));
    return last < 0 && this.#inherited.has(tcpName(at)) ? 1 : last + 1;
  }

  #tcp(name: string, at: SocketAddress, options: ListenerOptions): ListeningSocket {
    const fd = this.#takeInherited(name, (each) => isTcp(each, at)) ?? openTcpListener(at, options);
    const port = findTcpListener(fd)?.port ?? at.port;
    return this.#hold(name, { fd, port, onClosed: () => undefined });
  }

  async unix(path: string, mode: number): Promise<ListeningSocket> {
    const name = `unix ${path}`;
    const fd =
      this.#takeInherited(name, (each) => findUnixListener(each) === path) ?? (await openAt(path, mode));
    return this.#hold(name, { fd, port: 0, onClosed: () => rmSync(path, { force: true }) });
  }

  /** What is open, to be handed on. */
  list(): readonly { readonly name: string; readonly fd: number }[] {
    return Array.from(this.#open, ([name, fd]) => ({ name, fd }));
  }

  /** Another process holds what `list` told: files of unix sockets are its to remove. */
  handOn(): void {
    this.#isHandedOn = true;
  }

  /** Closes what was inherited and nobody asked for, once all parts have what they listen on: an address that is not in the configuration any more. */
  closeUnused(): void {
    for (const [name, fd] of this.#inherited) {
      const path = findUnixListener(fd);
      closeDescriptor(fd);
      if (path !== undefined && name === `unix ${path}`) rmSync(path, { force: true });
    }
    this.#inherited.clear();
  }

  /** A descriptor that is not what its name says is left for `closeUnused`. */
  #takeInherited(name: string, isIt: (fd: number) => boolean): number | undefined {
    const fd = this.#inherited.get(name);
    if (fd === undefined || !isIt(fd)) return undefined;
    this.#inherited.delete(name);
    return fd;
  }

  #hold(
    name: string,
    { fd, port, onClosed }: { readonly fd: number; readonly port: number; readonly onClosed: () => void },
  ): ListeningSocket {
    this.#open.set(name, fd);
    let isClosed = false;
    return {
      fd,
      port,
      closed: () => {
        if (isClosed) return;
        isClosed = true;
        this.#open.delete(name);
        if (!this.#isHandedOn) onClosed();
      },
    };
  }
}

/** The name of the socket that listens there alone. */
export function tcpName({ address, port }: SocketAddress): string {
  return `tcp ${address} ${port}`;
}

function sharedName(at: SocketAddress, index: number): string {
  return `${tcpName(at)} #${index}`;
}

function isTcp(fd: number, at: SocketAddress): boolean {
  const found = findTcpListener(fd);
  return found?.address === at.address && found.port === at.port;
}

async function openAt(path: string, mode: number): Promise<number> {
  await claimSocketPath(path);
  const fd = openUnixListener(path);
  // Until here the umask keeps everybody else out.
  chmodSync(path, mode);
  return fd;
}
