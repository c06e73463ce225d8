import { parseClientHello } from '../../../shared/wire/client-hello.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import { cutsOf, hexWords, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** The first bytes of TLS: the answer for what came so far never contradicts the answer for all of it. */
export const target: FuzzTarget = {
  seeds: fromBase64(...SEEDS.clientHellos),
  dictionary: [
    ...hexWords('160301', '160303', '0000', '0010', '00000000', '0017', '15030100020228', '1403030001'),
    ...words('picket/1', 'h2', 'abc.picket'),
  ],
  maxBytes: 20_000,
  check(input) {
    const whole = parseClientHello(input);
    for (const cut of cutsOf(input)) {
      const early = parseClientHello(input.subarray(0, cut));
      if (early.kind === 'incomplete') continue;
      requireSame(early.kind, whole.kind, `the answer after ${cut} bytes`);
      if (early.kind === 'hello') requireSame(early, whole, `the hello after ${cut} bytes`);
    }
    if (whole.kind === 'malformed') return `malformed ${whole.why.replaceAll(/\d+/g, 'N')}`;
    if (whole.kind === 'incomplete') return `incomplete ${Math.min(input.length, 6)}`;
    requireThat(/^[!-~]*$/.test(whole.serverName ?? ''), 'a server name that cannot be printed');
    return `hello ${whole.serverName === null} ${Math.min(whole.alpn.length, 4)}`;
  },
};
