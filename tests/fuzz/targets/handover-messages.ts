import { fromIncumbent, fromSuccessor } from '../../../agent/handover/messages.ts';
import { JSON_WORDS } from '../json-words.ts';
import { requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

const MAX_SOCKETS = 256;

/** What two agents say to each other when one takes over: nothing is believed that is not of the list, and no descriptor of the three that every process has. */
export const target: FuzzTarget = {
  seeds: words(
    '{"type":"hello","protocol":1,"version":"1.2.3"}',
    '{"type":"prepared","isCurrent":true}',
    '{"type":"serving"}',
    '{"type":"failed","message":"the settings are wrong"}',
    '{"type":"handover","version":"1.2.3","sockets":[{"name":"tcp :: 15008","fd":3},{"name":"unix /run/picket/agent.sock","fd":4}]}',
    '{"type":"go"}',
    '{"type":"draining","connections":5,"endsAt":"2026-11-24T10:00:00.000Z"}',
  ),
  dictionary: [...JSON_WORDS, ...words('"fd":2', '"fd":-1', '"sockets":[]', '"type":"go"', '"protocol":99')],
  maxBytes: 4096,
  check(input) {
    const value = parseJson(input.toString('utf8'));
    const ways = [fromSuccessor.safeParse(value), fromIncumbent.safeParse(value)].map(({ success, data }) => {
      if (!success) return 'refused';
      const again = JSON.parse(JSON.stringify(data)) as unknown;
      requireSame(again, data, 'a message sent on');
      if (data.type === 'handover') {
        requireThat(data.sockets.length <= MAX_SOCKETS, 'there are too many sockets');
        requireThat(
          data.sockets.every(({ fd }) => Number.isInteger(fd) && fd >= 3),
          'a descriptor is none',
        );
      }
      return data.type;
    });
    return ways.join(' ');
  },
};

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
