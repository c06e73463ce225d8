import type { SocketAddress } from '../../agent/native/socket-address.ts';

interface Forged {
  readonly from: SocketAddress;
  readonly to: SocketAddress;
  /** Its first word is what an echo says that it got. */
  readonly text: string;
}

const COUNT = 10;
const SEGMENT = `
import socket, struct, time
def segment(source, destination, text):
    return struct.pack('!HHHH', source, destination, 8 + len(text), 0) + text
`;

/** A program in Python that writes datagrams itself (CAP_NET_RAW), from an address and port of its own host that may be another program's. */
export function forgeDatagrams({ from, to, text }: Forged): string {
  return `${SEGMENT}
own = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
own.bind(('${from.address}', 0))
for _ in range(${COUNT}):
    try: own.sendto(segment(${from.port}, ${to.port}, b'${text}'), ('${to.address}', 0))
    except OSError: pass
    time.sleep(0.05)
print('forged')
`;
}

/** As `forgeDatagrams`, past every rule of its own namespace, by whatever source address: frames to the neighbour with a link address. */
export function forgeFrames({ from, to, text, neighbour }: Forged & { readonly neighbour: string }): string {
  return `${SEGMENT}
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def packet(payload):
    ends = socket.inet_aton('${from.address}') + socket.inet_aton('${to.address}')
    head = lambda check: struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(payload), 0, 0, 64, 17, check) + ends
    return head(sum16(head(0))) + payload
own = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
where = ('eth0', 0x0800, 0, 0, bytes.fromhex('${neighbour.replaceAll(':', '')}'))
for _ in range(${COUNT}):
    own.sendto(packet(segment(${from.port}, ${to.port}, b'${text}')), where)
    time.sleep(0.05)
print('forged')
`;
}
