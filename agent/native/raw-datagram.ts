import { PicketError } from '../../shared/errors/errors.ts';
import { encodeSegment, IPPROTO_UDP, type Datagram } from './datagram-packet.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { inNamespace, type InNamespace } from './network-namespace.ts';
import { AF_INET, encodeSockaddr, SOCKADDR_IN6_BYTES } from './sockaddr.ts';
import { setIntegerOption, SOL_SOCKET } from './socket-option.ts';

const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const SO_MARK = { level: SOL_SOCKET, name: 36, what: 'SO_MARK' };
const SO_BINDTOIFINDEX = { level: SOL_SOCKET, name: 62, what: 'SO_BINDTOIFINDEX' };
const SO_RCVBUF = { level: SOL_SOCKET, name: 8, what: 'SO_RCVBUF' };
const IN6_SCOPE_AT = 24;

const sockaddr = allocateNative(SOCKADDR_IN6_BYTES);

export interface RawDatagram extends Datagram, InNamespace {
  /** By which capture lets it pass; 0 sets none. */
  readonly mark: number;
  /** The interface that the program's socket is bound to; 0 for none. */
  readonly boundTo: number;
  /** The interface by which it was to leave, which addresses of links need. */
  readonly interfaceIndex: number;
}

/**
 * Sends a datagram in the name of the socket that it came from: from its address and port, so that answers go there. The IP header is made by the kernel, which cuts the datagram where it is longer than a
 * packet may be; time to live, type of service and options are the defaults. Needs CAP_NET_RAW and CAP_NET_ADMIN. Throws `unavailable`, reason `raw_datagram`, `socket_option` or `network_namespace`.
 */
export function sendRawDatagram(datagram: RawDatagram): void {
  const length = encodeSockaddr(sockaddr, { ...datagram.destination, port: 0 });
  const family = sockaddr.readUInt16LE(0);
  const fd = inNamespace(datagram, () => libc().socket(family, SOCK_RAW_NONBLOCK_CLOEXEC, IPPROTO_UDP));
  if (fd < 0) throw refused(datagram, errno());
  try {
    // A raw socket gets a copy of every datagram that comes meanwhile: none is read.
    setIntegerOption(fd, SO_RCVBUF, 0);
    if (datagram.mark !== 0) setIntegerOption(fd, SO_MARK, datagram.mark);
    if (datagram.boundTo !== 0) setIntegerOption(fd, SO_BINDTOIFINDEX, datagram.boundTo);
    const name = (address: string): void => {
      encodeSockaddr(sockaddr, { address, port: 0 });
      if (family !== AF_INET && address.startsWith('fe80:'))
        sockaddr.writeUInt32LE(datagram.interfaceIndex, IN6_SCOPE_AT);
    };
    name(datagram.source.address);
    if (libc().bind(fd, sockaddr, length) < 0) throw refused(datagram, errno());
    name(datagram.destination.address);
    if (libc().connect(fd, sockaddr, length) < 0) throw refused(datagram, errno());
    const segment = encodeSegment(datagram);
    if (Number(libc().send(fd, segment, segment.length, 0)) !== segment.length)
      throw refused(datagram, errno());
  } finally {
    libc().close(fd);
  }
}

function refused({ destination }: RawDatagram, number: number): PicketError {
  const message = `Cannot send a datagram on to ${destination.address}, port ${destination.port}: ${errnoName(number)}`;
  return new PicketError('unavailable', 'raw_datagram', message);
}
