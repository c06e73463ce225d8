import { decodeTrackingAnswer, encodeTrackingQuery } from '../../../agent/native/conntrack-message.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import { hexWords, requireThat, type FuzzTarget } from '../target.ts';

const SEQUENCE = 7;

/** What connection tracking answers: both directions are such as can be asked for again. */
export const target: FuzzTarget = {
  seeds: fromBase64(...SEEDS.conntrack),
  dictionary: hexWords(
    '07000000',
    '0001',
    '0200',
    '0180',
    '0280',
    '0c00',
    '1400',
    '0400',
    '0500010006000000',
    '0800010001020304',
    '14000300',
    '06000200',
    '06000300',
  ),
  maxBytes: 2048,
  check(input) {
    const answer = decodeTrackingAnswer(input, SEQUENCE);
    if (answer?.kind !== 'connection') return answer?.kind ?? 'nothing';
    const question = Buffer.alloc(128);
    const lengths = (['original', 'reply'] as const).map((side) => {
      const { source, destination } = answer[side];
      requireThat(source.port < 65_536 && destination.port < 65_536, 'a port that is none');
      return encodeTrackingQuery(question, SEQUENCE, { side, source, destination });
    });
    return `connection ${lengths.join()}`;
  },
};
