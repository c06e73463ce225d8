import net, { type Socket } from 'node:net';
import { dialMarked } from '../native/dial.ts';
import type { Dial } from './connection.ts';

/** A dialler whose connections carry `mark`, so that our own capture rules let them pass; 0 sets none and needs no privilege. */
export function createMarkedDial(mark: number): Dial {
  return (destination) => connectDescriptor(dialMarked({ ...destination, mark }));
}

/** A descriptor that is still connecting is taken over by `net.connect`; the types know only the other ways to connect. */
function connectDescriptor(fd: number): Socket {
  return net.connect({ fd } as unknown as net.NetConnectOpts);
}
