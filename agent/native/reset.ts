import { setPairOption, SOL_SOCKET } from './socket-option.ts';

const SO_LINGER = { level: SOL_SOCKET, name: 13, what: 'SO_LINGER' };

/**
 * Makes the next close of the descriptor send RST and throw away what was not sent, so that the peer's program gets ECONNRESET instead of
 * an ordinary end. Follow it with `terminate()` on the Bun socket. Throws `unavailable`, reason `socket_option`.
 */
export function resetOnClose(fd: number): void {
  setPairOption(fd, SO_LINGER, [1, 0]);
}
