import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { CapturePorts } from '../../capture/capture.ts';
import { findExactTcpConnection, findOnlyTcpConnectionFrom } from '../../native/sock-diag.ts';
import type { TcpSocket } from '../../native/sock-diag-message.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { CapturedWay, FindCapturedWay } from './captured-way.ts';
import { endLeftOver } from '../streams/left-over.ts';
import type { AcceptedSocket, TcpStream } from '../streams/tcp-stream.ts';

/** Sees a connection through, of which it is known where it was going. */
export type CaptureHandler = (stream: TcpStream, way: CapturedWay) => Promise<void>;

export interface SteerOptions {
  readonly find: FindCapturedWay;
  readonly handle: CaptureHandler;
  readonly ports: CapturePorts;
  /** Of the agent's own sockets. */
  readonly mark: number;
  /** Hears of those who speak to our own ports: anybody on the host can do that as often as he likes. */
  readonly refused: CrowdReport<'refused'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Sees a captured connection to where it was going. Whoever speaks to our own ports speaks to nobody. */
export function steer(stream: TcpStream, socket: AcceptedSocket, steering: SteerOptions): void {
  const { handle, ports, mark, refused, clock, log } = steering;
  const { namespace } = socket;
  let known: CapturedWay | undefined;
  const find = (): TcpSocket | undefined =>
    known === undefined
      ? findOnlyTcpConnectionFrom(socket.remote, { namespace, besideMark: mark })
      : findExactTcpConnection(known.client, known.dialled, { namespace });
  if (socket.local.port === ports.outbound) endLeftOver(stream, { find, namespace, clock, log });
  const follow = async (): Promise<void> => {
    const way = steering.find(socket);
    if (way === undefined || isOwn(way.destination, socket, ports)) {
      refused.note('refused', socket.remote.address);
      return stream.abort();
    }
    known = way;
    await handle(stream, way);
  };
  follow().catch((error: unknown) => {
    log.error('connection_failed', { error: toPicketError(error) });
    stream.abort();
  });
}

function isOwn(destination: SocketAddress, { local }: AcceptedSocket, ports: CapturePorts): boolean {
  const own: readonly number[] = [ports.outbound, ports.inbound];
  return destination.address === local.address && own.includes(destination.port);
}
