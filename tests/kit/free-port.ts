import { randomInt } from 'node:crypto';

/** Below the ports that the kernel gives to connections (net.ipv4.ip_local_port_range), any of which may take the port of a server that is being restarted. */
const PORTS = { from: 20_000, to: 32_000 };

/** A TCP port of 127.0.0.1 that nobody has, and that nobody gets who does not ask for it. */
export function freePort(): number {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    if (isFree(port)) return port;
  }
}

function isFree(port: number): boolean {
  try {
    Bun.listen({ hostname: '127.0.0.1', port, socket: { data() {} } }).stop(true);
    return true;
  } catch {
    return false;
  }
}
