import { decodeIpAddress, encodeIpAddress } from '../../../shared/runtime/ip-address.ts';
import { decodeAnswer } from '../../../agent/native/sock-diag-message.ts';
import { decodeSockaddr } from '../../../agent/native/sockaddr.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import { hexWords, requireSame, requireThat, type FuzzTarget } from '../target.ts';

const SEQUENCE = 7;

/** What the kernel answers on sockets: addresses that can be written again, never more messages than bytes. */
export const target: FuzzTarget = {
  seeds: fromBase64(...SEEDS.sockDiag),
  dictionary: hexWords(
    '07000000',
    '1400',
    '0300',
    '0200',
    '10000000',
    '00000000',
    'ffffffff',
    '58000000',
    '05000b00',
    '0a',
    '02',
    '00000000000000000000ffff',
  ),
  maxBytes: 4096,
  check(input) {
    const messages = decodeAnswer(input, SEQUENCE);
    requireThat(messages.length <= input.length / 16, 'more messages than bytes');
    for (const message of messages) {
      if (message.kind !== 'socket') continue;
      const { local, remote } = message.socket;
      for (const { address, port } of [local, remote]) {
        requireSame(decodeIpAddress(encodeIpAddress(address)), address, 'an address read again');
        requireThat(port >= 0 && port < 65_536, 'a port that is none');
      }
    }
    const near = input.length < 28 ? undefined : decodeSockaddr(input);
    if (near !== undefined)
      requireSame(decodeIpAddress(encodeIpAddress(near.address)), near.address, 'a sockaddr');
    return `${messages
      .slice(0, 4)
      .map(({ kind }) => kind)
      .join()} ${near === undefined}`;
  },
};
