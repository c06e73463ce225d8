import { describeError, PicketError } from '../../../shared/errors/errors.ts';
import { handshakeFailure } from '../../../shared/runtime/handshake-failure.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { dialForTraffic, type DialTarget } from '../../native/dial.ts';
import { openSocketPair } from '../../native/socket-pair.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import { adoptNative, codeOf, type NativeSocket } from './bun-socket.ts';
import { splice } from './splice.ts';
import { StreamOver } from './stream-over.ts';
import { adoptStream, TcpStream } from './tcp-stream.ts';

/** One end of a TLS connection whose handshake is over. */
export interface TlsEnd {
  /** What is within. */
  readonly stream: ByteStream;
  /** What both agreed on (ALPN); undefined where they did not speak of it. */
  readonly protocol: string | undefined;
  /** To be asked what the other end proved. */
  readonly socket: Bun.Socket<unknown>;
  /** What Bun thinks of the other end's certificate, on a client. */
  readonly error: Error | undefined;
}

interface Pending {
  readonly clock: Clock;
  /** For all of it: on a client, for TCP and TLS together. */
  readonly timeoutMs: number;
  /** Nobody waits for it any more. */
  readonly signal: AbortSignal;
}

type Socket = NativeSocket<TcpStream>;
/** The other end was not reached, broke off or kept silent; or the handshake with it failed. */
type Failure = { readonly reason: 'dial_failed' | 'tls_failed'; readonly why: string };
type Outcome = TlsEnd | Failure;

/**
 * Connects to a server of TLS. The certificate is for the caller to judge, before anything is written: `tls` should not reject by itself. Rejects with `unavailable`, reason
 * `tls_failed` where the handshake fails, and `dial_failed` where it is not reached, does not answer in time, or `signal` aborts.
 */
export async function dialTls(
  target: DialTarget & Pending & { readonly tls: Bun.TLSOptions },
): Promise<TlsEnd> {
  const fd = dialForTraffic(target);
  return await shake(target, async (handlers) => {
    const options = { fd, allowHalfOpen: true, tls: target.tls, socket: handlers };
    return await Bun.connect(options as unknown as Bun.TCPSocketConnectOptions<TcpStream>);
  });
}

/**
 * Ends the TLS of a client whose bytes come by any stream, `first` of them already; BoringSSL wants a socket, so that one end of a pair stands for the client. From here on `client`
 * is read and ended by what is within; whoever ends it himself before that aborts `signal`, since a stream tells nobody of its own abort. Rejects as `dialTls`, with `socket_pair_failed` too: the client is good for
 * nothing more then, and is the caller's to abort, who can tell it why.
 */
export async function acceptTls(
  client: ByteStream,
  options: Pending & { readonly first: Uint8Array; readonly tls: Bun.TLSOptions },
): Promise<TlsEnd> {
  const [raw, carrier] = await openCarrier();
  try {
    const end = await shake(options, (handlers) => {
      const socket = upgrade(raw, options.tls, handlers);
      carrier.write(options.first);
      splice(client, carrier, (failure) => {
        if (failure !== undefined) socket.data.lose(failure);
      });
      client.resume();
      carrier.resume();
      return socket;
    });
    return { ...end, stream: new CarriedStream(end.stream, [client, carrier]) };
  } catch (error) {
    raw.terminate();
    carrier.abort();
    throw error;
  }
}

/** Two sockets that are connected with each other: one to be upgraded, and the one by which it is fed. Rejects with `unavailable`, reason `socket_pair_failed`. */
async function openCarrier(): Promise<readonly [Bun.Socket, ByteStream]> {
  const [ours, theirs] = openSocketPair();
  // Each is owned by Bun from here on, whatever becomes of the other.
  const adopted = await Promise.allSettled([adoptNative(ours, IGNORED), adoptStream(theirs)]);
  const [raw, carrier] = adopted;
  if (raw.status === 'fulfilled' && carrier.status === 'fulfilled') return [raw.value, carrier.value];
  if (raw.status === 'fulfilled') raw.value.terminate();
  if (carrier.status === 'fulfilled') carrier.value.abort();
  const why = adopted.flatMap((each) => (each.status === 'rejected' ? [describeError(each.reason)] : []));
  throw new PicketError('unavailable', 'socket_pair_failed', why.join(', '));
}

/** What is within, aborted with what carries it: TLS would have the other end believe that it ended in good order. */
class CarriedStream extends StreamOver {
  readonly #carriers: readonly ByteStream[];

  constructor(within: ByteStream, carriers: readonly ByteStream[]) {
    super(within);
    this.#carriers = carriers;
  }

  override abort(failure?: StreamFailure): void {
    for (const carrier of this.#carriers) carrier.abort(failure);
    super.abort(failure);
  }
}

/** Bun wants one of `data` and `drain`. With `data` the raw socket below would go on telling of its ciphertext. */
const IGNORED = {
  open: (socket: Bun.Socket) => socket.pause(),
  drain: () => undefined,
  end: () => undefined,
  close: () => undefined,
  error: () => undefined,
};

function upgrade(raw: Bun.Socket, tls: Bun.TLSOptions, handlers: object): Bun.Socket<TcpStream> {
  const [, upgraded] = raw.upgradeTLS({
    tls,
    isServer: true,
    allowHalfOpen: true,
    socket: handlers,
  } as unknown as Bun.TLSUpgradeOptions<TcpStream>);
  raw.resume();
  return upgraded;
}

async function shake(
  { clock, timeoutMs, signal }: Pending,
  start: (handlers: object) => Bun.Socket<TcpStream> | Promise<Bun.Socket<TcpStream>>,
): Promise<TlsEnd> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const giveUp = (why: string) => (): void => resolve({ reason: 'dial_failed', why });
  const cancel = clock.schedule(timeoutMs, giveUp('ETIMEDOUT'));
  signal.addEventListener('abort', giveUp('ECANCELED'), { once: true });
  // An event of the past is not told.
  if (signal.aborted) giveUp('ECANCELED')();
  const started = Promise.resolve(handlersOf(resolve))
    .then(start)
    .catch((error: unknown) => {
      resolve({ reason: 'tls_failed', why: describeError(error) });
      return undefined;
    });
  const outcome = await promise;
  cancel();
  if (!('why' in outcome)) return outcome;
  void started.then((socket) => socket?.terminate());
  throw new PicketError('unavailable', outcome.reason, outcome.why);
}

function handlersOf(settle: (outcome: Outcome) => void): object {
  let isShaken = false;
  const closed = (error: Error | undefined): void =>
    settle(
      error === undefined
        ? { reason: 'tls_failed', why: 'the other end closed it' }
        : { reason: 'dial_failed', why: codeOf(error) },
    );
  return {
    ...TcpStream.handlers,
    open: (socket: Socket) => void (socket.data = new TcpStream(socket)),
    handshake: (socket: Socket, isFinished: boolean, error: Error | null | undefined) => {
      // Another one (TLS 1.2) changes nothing.
      if (isShaken) return;
      isShaken = true;
      settle(outcomeOf(socket, isFinished, error ?? undefined));
    },
    close: (socket: Socket, error?: Error) => {
      closed(error);
      TcpStream.handlers.close(socket, error);
    },
    connectError: (_: Socket, error: Error) => closed(error),
  };
}

function outcomeOf(socket: Socket, isFinished: boolean, error: Error | undefined): Outcome {
  const failure = handshakeFailure(isFinished, error ?? null);
  if (failure !== undefined) return { reason: 'tls_failed', why: failure };
  const { alpnProtocol } = socket;
  const protocol = typeof alpnProtocol === 'string' && alpnProtocol !== '' ? alpnProtocol : undefined;
  return { stream: socket.data, protocol, socket, error };
}
