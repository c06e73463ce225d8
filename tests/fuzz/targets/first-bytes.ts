import { classifyFirstBytes, classifyHttp } from '../../../shared/wire/http1-detect.ts';
import { parseRequestHead } from '../../../shared/wire/http1-head.ts';
import { findHeadEnd } from '../../../shared/wire/http1-syntax.ts';
import { HTTP1_WORDS } from '../http1-words.ts';
import { attempt, cutsOf, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Whether a client speaks HTTP: no later byte overturns the answer, and what is a request is never taken for something else. */
export const target: FuzzTarget = {
  seeds: words(
    'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
    '\r\n\r\nGET  \thttp://a/ HTTP/1.0\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'SSH-2.0-OpenSSH_9.2\r\n',
    'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n',
    'EHLO mail.example.org\r\n',
  ),
  dictionary: HTTP1_WORDS,
  maxBytes: 4096,
  check(input) {
    const whole = classifyFirstBytes(input);
    for (const cut of cutsOf(input)) {
      const early = classifyFirstBytes(input.subarray(0, cut));
      if (early !== 'incomplete') requireSame(early, whole, `the answer after ${cut} bytes`);
    }
    if (whole === 'http2') requireSame(classifyHttp(input), 'http2', 'the answer where HTTP is sure');
    const end = findHeadEnd(input, 0);
    const isRequest = end > 0 && attempt(() => parseRequestHead(input, 0, end)).refusal === undefined;
    requireThat(!isRequest || whole === 'http1', 'a request is not taken for one');
    return `${whole} ${isRequest}`;
  },
};
