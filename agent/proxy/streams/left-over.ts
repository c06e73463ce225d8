import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import { destroyTcpConnection } from '../../native/sock-diag.ts';
import type { TcpSocket } from '../../native/sock-diag-message.ts';
import type { TcpStream } from './tcp-stream.ts';

/** In this time, in milliseconds, a reset has reached the program if it reaches it at all. */
const RESET_REACHES_MS = 100;

/**
 * When connection tracking has forgotten a captured connection, nobody translates between the program's end of it and ours any more: ours breaks, and the program,
 * which no reset reaches, would wait for ever. So when ours breaks and the program's end is still there a little later, it is ended too.
 */
export function endLeftOver(
  stream: TcpStream,
  options: InNamespace & {
    /** The program's end, if it is still there. */
    readonly find: () => TcpSocket | undefined;
    readonly clock: Clock;
    readonly log: Log;
  },
): void {
  const { find, namespace, clock, log } = options;
  const tryTo = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      log.warn('left_over_not_ended', { error: toPicketError(error) });
    }
  };
  stream.whenBroken(() =>
    tryTo(() => {
      if (namespace?.isClosed === true) return;
      const left = find();
      if (left === undefined) return;
      clock.schedule(RESET_REACHES_MS, () =>
        tryTo(() => {
          if (destroyTcpConnection(left, { namespace }))
            log.warn('left_over_ended', { source: left.local, destination: left.remote });
        }),
      );
    }),
  );
}
