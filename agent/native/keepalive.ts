import { IPPROTO_TCP, setIntegerOption, SOL_SOCKET } from './socket-option.ts';

const SO_KEEPALIVE = { level: SOL_SOCKET, name: 9, what: 'SO_KEEPALIVE' };
const TCP_KEEPIDLE = { level: IPPROTO_TCP, name: 4, what: 'TCP_KEEPIDLE' };
const TCP_KEEPINTVL = { level: IPPROTO_TCP, name: 5, what: 'TCP_KEEPINTVL' };
const TCP_KEEPCNT = { level: IPPROTO_TCP, name: 6, what: 'TCP_KEEPCNT' };

/** When a silent peer is given up: after this silence and so many probes without an answer. */
export interface Keepalive {
  readonly idleSeconds: number;
  readonly intervalSeconds: number;
  readonly probes: number;
}

/** Has the kernel probe a TCP connection. On a listening socket it is for all that it accepts from then on: Linux copies its options. Throws `unavailable`, reason `socket_option`. */
export function setKeepalive(fd: number, { idleSeconds, intervalSeconds, probes }: Keepalive): void {
  setIntegerOption(fd, SO_KEEPALIVE, 1);
  setIntegerOption(fd, TCP_KEEPIDLE, idleSeconds);
  setIntegerOption(fd, TCP_KEEPINTVL, intervalSeconds);
  setIntegerOption(fd, TCP_KEEPCNT, probes);
}
