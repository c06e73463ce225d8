import { decodeRtnetlinkAnswer } from '../../../agent/native/rtnetlink-message.ts';
import { canonicalAddress } from '../../../agent/directory/host-address.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import { hexWords, requireThat, type FuzzTarget } from '../target.ts';

const SEQUENCE = 7;

/** What the kernel answers of links, routes and namespaces: addresses are spelled in the one way, and numbers are such as it gives. */
export const target: FuzzTarget = {
  seeds: fromBase64(...SEEDS.rtnetlink),
  dictionary: hexWords(
    '07000000',
    '1000',
    '1800',
    '5800',
    '0200',
    '0300',
    '08000500',
    '0c001200',
    '0900010076657468',
    '08002500',
  ),
  maxBytes: 2048,
  check(input) {
    const { messages, isInterrupted } = decodeRtnetlinkAnswer(input, SEQUENCE);
    for (const message of messages) {
      if (message.kind === 'route') {
        const { address } = message.route;
        requireThat(canonicalAddress(address) === address, `an address in another spelling: ${address}`);
      }
      if (message.kind === 'link') requireThat(message.link.namespaceId >= 0, 'a number that is none');
    }
    return `${messages.map(({ kind }) => kind).join()}${isInterrupted ? ' interrupted' : ''}`;
  },
};
